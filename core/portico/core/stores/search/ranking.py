"""Ranks one owner's texts by their words (BM25), the same in every store.

All that a score depends on is the owner's own: how many texts there are, how many of
them have a word, and the texts themselves.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from portico.core.stores.search.tokenizer import count_words, query_words

MAX_SCORED = 2000  # texts in one search

# How much a word that is there again counts, how much a text's length, and, in a session, how much the words
# of the message before. Chosen by what benchmarks/recall.py finds.
K1 = 0.9
B = 0.35
BEFORE = 0.5

_MAX_COUNT = 255


@dataclass(frozen=True, slots=True)
class TextWords:
    """The words of a text as they are stored: each once, between spaces, the most frequent first."""

    words: str
    counts: bytes  # of those that the text has more than once

    @classmethod
    def of(cls, text: str) -> "TextWords":
        counted = count_words(text).most_common()
        counts = bytes(min(count, _MAX_COUNT) for _, count in counted if count > 1)
        return cls(" ".join(word for word, _ in counted), counts)


class Texts(Protocol):
    """The texts of one owner, by their numbers, which rise. Some may be left out of what is found, and are
    counted all the same."""

    async def frequencies(self, words: Sequence[str]) -> tuple[int, Mapping[str, int]]:
        """How many texts there are, and how many have each word."""
        ...

    async def having(
        self, words: Sequence[str], without: Sequence[str], limit: int
    ) -> Sequence[tuple[int, TextWords]]:
        """The newest with any of some words and none of the others."""
        ...


async def scores(texts: Texts, query: str) -> dict[int, float]:
    """Of the texts that have a word of the query. If these are too many: of those with its rarest words."""
    words = query_words(query)
    if not words:
        return {}
    total, counted = await texts.frequencies(words)
    frequencies = {word: counted[word] for word in words if counted.get(word)}
    found: list[tuple[int, TextWords]] = []
    rarest = sorted(frequencies, key=lambda word: frequencies[word])
    done = 0
    while done < len(rarest) and len(found) < MAX_SCORED:
        room = MAX_SCORED - len(found)
        sizes = [frequencies[word] for word in rarest[done:]]
        end = len(rarest) if total <= room else done + _fitting(sizes, room)
        found += await texts.having(rarest[done:end], rarest[:done], room)
        done = end
    return await asyncio.to_thread(_scores, total, frequencies, found)


def with_following(scores: Mapping[int, float], following: Mapping[int, int]) -> dict[int, float]:
    """The scores of messages, and of those that follow them in a session: an answer is also found by the
    words of its question."""
    found = dict(scores)
    for number, score in scores.items():
        if (next_number := following.get(number)) is not None:
            found[next_number] = found.get(next_number, 0.0) + BEFORE * score
    return found


def _fitting(sizes: Sequence[int], room: int) -> int:
    """How many of them, one at least, make no more than there is room for."""
    number = 0
    for size in sizes:
        room -= size
        if room < 0 and number:
            break
        number += 1
    return number


def _scores(
    total: int, frequencies: Mapping[str, int], found: Sequence[tuple[int, TextWords]]
) -> dict[int, float]:
    wanted = frozenset(frequencies)
    weights = {
        # Not less than 0, however many have the word.
        word: math.log1p((max(total - count, 0) + 0.5) / (count + 0.5)) * (K1 + 1)
        for word, count in frequencies.items()
    }
    texts = [(number, *_counts(text, wanted)) for number, text in found]
    average = sum(length for _, _, length in texts) / max(len(texts), 1)
    scored: dict[int, float] = {}
    for number, counts, length in texts:
        least = K1 * (1 - B + B * length / average)
        # In the query's order, so that sums are the same to the last bit.
        scored[number] = sum(
            weight * counts[word] / (counts[word] + least)
            for word, weight in weights.items()
            if word in counts
        )
    return scored


def _counts(text: TextWords, wanted: frozenset[str]) -> tuple[dict[str, int], int]:
    """How often the text has each of the words, and how many words it has."""
    words = text.words.split(" ")
    counts = {}
    for word in wanted.intersection(words):
        place = words.index(word)
        counts[word] = text.counts[place] if place < len(text.counts) else 1
    return counts, len(words) + sum(text.counts) - len(text.counts)
