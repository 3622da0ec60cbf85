"""The kinds of text parts in items, with their events."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PartKind:
    """The event names of one kind of part, and its JSON."""

    json: Callable[[str], dict[str, Any]]
    added: str
    delta: str
    done: str  # when the text is complete
    closed: str  # when the part is complete
    index: str = "content_index"
    text: str = "text"
    more: tuple[tuple[str, Any], ...] = ()  # additional members of events with text


_PART = ("response.content_part.added", "response.content_part.done")

OUTPUT_TEXT = PartKind(
    lambda text: {"type": "output_text", "text": text, "annotations": [], "logprobs": []},
    _PART[0],
    "response.output_text.delta",
    "response.output_text.done",
    _PART[1],
    more=(("logprobs", []),),
)
REFUSAL = PartKind(
    lambda text: {"type": "refusal", "refusal": text},
    _PART[0],
    "response.refusal.delta",
    "response.refusal.done",
    _PART[1],
    text="refusal",
)
REASONING_TEXT = PartKind(
    lambda text: {"type": "reasoning_text", "text": text},
    _PART[0],
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    _PART[1],
)
SUMMARY_TEXT = PartKind(
    lambda text: {"type": "summary_text", "text": text},
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_summary_part.done",
    index="summary_index",
)
