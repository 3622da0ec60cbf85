"""Ranks one owner's texts by their words with BM25, identically in every store.

A score depends only on data of the owner: how many texts there are, how many of them
contain a word, and the texts themselves.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from portico.core.stores.search.tokenizer import count_tokens, tokenize_query

MAX_SCORED = 2000  # the most texts to rank in one search

# The weights of BM25 for repeated words (K1) and for a text's length (B), and the share of its score that a
# message adds to the next message of its session (BEFORE). Chosen by the results of benchmarks/recall.py.
K1 = 0.9
BM25_B = 0.35
PRECEDING_MATCH_WEIGHT = 0.5

_MAX_COUNT = 255


@dataclass(frozen=True, slots=True)
class IndexedText:
    """The words of a text as stored: each word once, separated by spaces, the most frequent first."""

    words: str
    counts: bytes  # a byte per word that occurs more than once, in the same order

    @classmethod
    def of(cls, text: str) -> "IndexedText":
        counted = count_tokens(text).most_common()
        counts = bytes(min(count, _MAX_COUNT) for _, count in counted if count > 1)
        return cls(" ".join(word for word, _ in counted), counts)


class TextIndex(Protocol):
    """The texts of one owner, by increasing numbers.

    `having` may leave out texts that do not match a filter, but `frequencies` counts all texts.
    """

    async def frequencies(self, words: Sequence[str]) -> tuple[int, Mapping[str, int]]:
        """Return how many texts there are, and how many contain each word."""
        ...

    async def having(
        self, words: Sequence[str], without: Sequence[str], limit: int
    ) -> Sequence[tuple[int, IndexedText]]:
        """Return the newest texts with any of `words` and none of `without`."""
        ...


async def scores(texts: TextIndex, query: str) -> dict[int, float]:
    """Return the scores, by number, of the texts that contain a word of the query.

    If there are more than MAX_SCORED, only texts with the query's rarest words are ranked.
    """
    words = tokenize_query(query)
    if not words:
        return {}
    total, counted = await texts.frequencies(words)
    frequencies = {word: counted[word] for word in words if counted.get(word)}
    found: list[tuple[int, IndexedText]] = []
    rarest = sorted(frequencies, key=lambda word: frequencies[word])
    done = 0
    while done < len(rarest) and len(found) < MAX_SCORED:
        room = MAX_SCORED - len(found)
        sizes = [frequencies[word] for word in rarest[done:]]
        end = len(rarest) if total <= room else done + _fitting(sizes, room)
        found += await texts.having(rarest[done:end], rarest[:done], room)
        done = end
    return await asyncio.to_thread(_scores, total, frequencies, found)


def add_following_scores(scores: Mapping[int, float], following: Mapping[int, int]) -> dict[int, float]:
    """Add a share of each message's score to the next message of its session.

    So an answer is also found by the words of its question. `following` maps messages to the next ones.
    """
    found = dict(scores)
    for number, score in scores.items():
        if (next_number := following.get(number)) is not None:
            found[next_number] = found.get(next_number, 0.0) + PRECEDING_MATCH_WEIGHT * score
    return found


def _fitting(sizes: Sequence[int], room: int) -> int:
    """Return how many of the first sizes, at least one, fit into `room` in total."""
    number = 0
    for size in sizes:
        room -= size
        if room < 0 and number:
            break
        number += 1
    return number


def _scores(
    total: int, frequencies: Mapping[str, int], found: Sequence[tuple[int, IndexedText]]
) -> dict[int, float]:
    wanted = frozenset(frequencies)
    weights = {
        # log1p keeps the weight above 0 even if most texts contain the word.
        word: math.log1p((max(total - count, 0) + 0.5) / (count + 0.5)) * (K1 + 1)
        for word, count in frequencies.items()
    }
    texts = [(number, *_counts(text, wanted)) for number, text in found]
    average = sum(length for _, _, length in texts) / max(len(texts), 1)
    scored: dict[int, float] = {}
    for number, counts, length in texts:
        least = K1 * (1 - BM25_B + BM25_B * length / average)
        # Added in the order of the query, so that the floating-point sums are identical in every store.
        scored[number] = sum(
            weight * counts[word] / (counts[word] + least)
            for word, weight in weights.items()
            if word in counts
        )
    return scored


def _counts(text: IndexedText, wanted: frozenset[str]) -> tuple[dict[str, int], int]:
    """Return how often the text contains each of the wanted words, and how many words it has in total."""
    words = text.words.split(" ")
    counts = {}
    for word in wanted.intersection(words):
        place = words.index(word)
        counts[word] = text.counts[place] if place < len(text.counts) else 1
    return counts, len(words) + sum(text.counts) - len(text.counts)
