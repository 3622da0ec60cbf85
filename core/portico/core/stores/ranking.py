"""A small BM25 index for the stores in memory."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Generic, TypeVar

from portico.core.stores.words import query_words, text_words

_K1 = 1.2
_B = 0.75

_Key = TypeVar("_Key")


class WordIndex(Generic[_Key]):
    """Texts of one owner by their words."""

    def __init__(self) -> None:
        self._texts: dict[_Key, Counter[str]] = {}
        self._postings: dict[str, set[_Key]] = {}
        self._length = 0

    def add(self, key: _Key, text: str) -> None:
        self._add(key, Counter(_stem(word) for word in text_words(text)))

    def copy(self, key: _Key, new_key: _Key) -> None:
        """Add a text once more under another key."""
        self._add(new_key, self._texts[key])

    def remove(self, key: _Key) -> None:
        counts = self._texts.pop(key)
        self._length -= counts.total()
        for word in counts:
            keys = self._postings[word]
            keys.discard(key)
            if not keys:
                del self._postings[word]

    def search(self, query: str) -> dict[_Key, float]:
        """The scores of the texts that have a word of the query."""
        scores: dict[_Key, float] = {}
        for word in self._words(query):
            keys = self._postings[word]
            weight = math.log(1 + (len(self._texts) - len(keys) + 0.5) / (len(keys) + 0.5))
            for key in keys:
                scores[key] = scores.get(key, 0.0) + weight * self._saturation(key, word)
        return scores

    def _add(self, key: _Key, counts: Counter[str]) -> None:
        self._texts[key] = counts
        self._length += counts.total()
        for word in counts:
            self._postings.setdefault(word, set()).add(key)

    def _words(self, query: str) -> Iterable[str]:
        words, prefixes = query_words(query)
        found = {stem for word in words if (stem := _stem(word)) in self._postings}
        for prefix in prefixes:
            found.update(word for word in self._postings if word.startswith(prefix))
        return found

    def _saturation(self, key: _Key, word: str) -> float:
        counts = self._texts[key]
        average = self._length / len(self._texts)
        count = counts[word]
        return count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * counts.total() / average))


def _stem(word: str) -> str:
    """The word without case, accents and the commonest English endings."""
    if not word.isascii():
        bare = (letter for letter in unicodedata.normalize("NFD", word) if not "\u0300" <= letter <= "\u036f")
        word = unicodedata.normalize("NFC", "".join(bare))
    word = word.lower()
    if not word.isalpha():
        return word
    for ending in ("ies", "ing", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word.removesuffix(ending)
            break
    # run-ning and run, hop-ed and hope, stor-ies and story meet in the same stem.
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        return word[:-1]
    return word[:-1] if len(word) > 3 and word[-1] in "eiy" else word
