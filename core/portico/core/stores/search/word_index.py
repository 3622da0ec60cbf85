"""The word index of one owner's texts in memory."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import nlargest
from itertools import pairwise

from portico.core.stores.search.ranking import IndexedText


class WordIndex:
    """Texts by number, and the numbers of the texts that contain a word."""

    def __init__(self) -> None:
        self._texts: dict[int, IndexedText] = {}
        self._numbers: dict[str, set[int]] = {}  # of the texts that have a word

    def add(self, number: int, text: str) -> None:
        self._add(number, IndexedText.of(text))

    def copy(self, number: int, new_number: int) -> None:
        """Add a text again, under another number."""
        self._add(new_number, self._texts[number])

    def remove(self, number: int) -> None:
        for word in self._texts.pop(number).words.split():
            numbers = self._numbers[word]
            numbers.discard(number)
            if not numbers:
                del self._numbers[word]

    def pairs(self, numbers: Iterable[int]) -> Iterable[tuple[int, int]]:
        """Yield pairs of consecutive texts of these, without texts that have no words."""
        return pairwise(number for number in numbers if number in self._texts and self._texts[number].words)

    def filtered(self, fits: Callable[[int], bool]) -> "FilteredTexts":
        """Return the texts for ranking: only texts that fit are found, but all are counted."""
        return FilteredTexts(self._texts, self._numbers, fits)

    def _add(self, number: int, text: IndexedText) -> None:
        self._texts[number] = text
        for word in text.words.split():
            self._numbers.setdefault(word, set()).add(number)


class FilteredTexts:
    """The texts of one owner, as `ranking.Texts`."""

    def __init__(
        self,
        texts: Mapping[int, IndexedText],
        numbers: Mapping[str, set[int]],
        fits: Callable[[int], bool],
    ) -> None:
        self._texts = texts
        self._numbers = numbers
        self._fits = fits

    async def frequencies(self, words: Sequence[str]) -> tuple[int, Mapping[str, int]]:
        return len(self._texts), {word: len(self._numbers[word]) for word in words if word in self._numbers}

    async def having(
        self, words: Sequence[str], without: Sequence[str], limit: int
    ) -> Sequence[tuple[int, IndexedText]]:
        found = self._with_any(words) - self._with_any(without)
        return [(number, self._texts[number]) for number in nlargest(limit, filter(self._fits, found))]

    def _with_any(self, words: Sequence[str]) -> set[int]:
        return set[int]().union(*(self._numbers.get(word, ()) for word in words))
