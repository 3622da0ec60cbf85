"""Selects the pieces of a text to show for a query, by the same words as the search."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from portico.core.stores.search.tokenizer import UNSPACED_OR_NOT, UNSPACED_RUN, tokenize, tokenize_query

MAX_SCANNED_CHARACTERS = 20_000  # characters from the beginning of a text that are searched
MAX_HIGHLIGHTS = 3  # the most pieces of a text
HIGHLIGHT_CHARACTERS = 200  # approximate characters of a piece
_BEFORE = 60  # characters of a piece before its first match
_NEAR = 20  # how many characters a piece's start and end may move, to keep words whole

_CHUNK = re.compile(r"\S{1,64}")
_WORD = re.compile(r"\w+")
_SPACE = re.compile(r"\s")
_AROUND = ".,;:!?…()[]{}<>\"'«»“”‘’`*_。、，！？：；（）「」『』"

Span = tuple[int, int]


class Highlight(NamedTuple):
    """A piece of a text, and the ranges of the matches in it."""

    text: str
    ranges: Sequence[Span]


def highlights(text: str, query: str) -> list[Highlight]:
    """Return the first pieces of the text that contain words of the query."""
    text = text[:MAX_SCANNED_CHARACTERS]
    wanted = frozenset(tokenize_query(query))
    found: list[Highlight] = []
    spans = _spans(text, wanted)
    span = next(spans, None)
    while span is not None and len(found) < MAX_HIGHLIGHTS:
        start = _edge(text, max(0, span[0] - _BEFORE), span[0])
        end = max(_edge(text, min(start + HIGHLIGHT_CHARACTERS, len(text)), len(text)), span[1])
        ranges: list[Span] = []
        while span is not None and span[1] <= end:
            ranges.append((span[0] - start, span[1] - start))
            span = next(spans, None)
        found.append(Highlight(text[start:end], ranges))
        if span is not None and span[0] < end:
            span = (end, span[1])
    return found


def _spans(text: str, wanted: frozenset[str]) -> Iterator[Span]:
    for chunk in _CHUNK.finditer(text):
        if not wanted.isdisjoint(tokenize(chunk[0])):
            yield from _merged(_within(chunk[0], chunk.start(), wanted))


def _within(chunk: str, place: int, wanted: frozenset[str]) -> Iterator[Span]:
    """Yield the matching words of a chunk, or the whole chunk if only its words together match.

    An example of the latter is `followup` in "follow-up".
    """
    words = [word for word in _words(chunk) if not wanted.isdisjoint(_found_by(chunk[slice(*word)]))]
    for start, end in words:
        yield place + start, place + end
    if not words:
        start = len(chunk) - len(chunk.lstrip(_AROUND))
        yield place + start, place + max(len(chunk.rstrip(_AROUND)), start + 1)


def _found_by(word: str) -> Sequence[str]:
    words = tokenize(word)
    return words[-1:] if UNSPACED_RUN.match(word) else words  # the pair, without its single characters


def _words(chunk: str) -> Iterator[Span]:
    """Yield the ranges of words; in scripts without spaces, of single characters and pairs of them."""
    for word in _WORD.finditer(chunk):
        place = word.start()
        for part in UNSPACED_OR_NOT.findall(word[0]):
            if UNSPACED_RUN.match(part):
                for start in range(place, place + len(part)):
                    yield start, start + 1
                    yield start, min(start + 2, place + len(part))
            else:
                yield place, place + len(part)
            place += len(part)


def _merged(spans: Iterator[Span]) -> Iterator[Span]:
    last: Span | None = None
    for start, end in spans:
        if last is not None and start <= last[1]:
            last = last[0], max(last[1], end)
            continue
        if last is not None:
            yield last
        last = start, end
    if last is not None:
        yield last


def _edge(text: str, place: int, most: int) -> int:
    """Return the start of the next word at most _NEAR characters after `place`, but not after `most`.

    Returns `place` if there is none.
    """
    if place in (0, len(text)):
        return place
    space = _SPACE.search(text, place, min(place + _NEAR, most))
    return space.end() if space else place
