"""Determines whether a yielded item belongs to the agent protocol or to a framework."""

from collections.abc import Mapping
from typing import Any

from portico.agent.builders import CallDelta, Delta, NewMessage
from portico.model.messages import CONTENT_TYPES, Message, Usage

_OURS = (str, Delta, CallDelta, NewMessage, Message, Usage, *CONTENT_TYPES)
_OPENAI_OBJECTS = ("chat.completion.chunk", "chat.completion")


def is_portico_item(item: Any) -> bool:
    """Whether the item belongs to the agent protocol and needs no translation."""
    return item is None or isinstance(item, _OURS)


def framework_of(item: Any) -> str:
    """The framework of an item if the agent named none: "openai" for OpenAI's types and its API's JSON, else
    empty."""
    if isinstance(item, Mapping):
        event = str(item.get("type")).startswith("response.") and "sequence_number" in item
        return "openai" if event or item.get("object") in _OPENAI_OBJECTS else ""
    return "openai" if type(item).__module__.startswith("openai.") else ""
