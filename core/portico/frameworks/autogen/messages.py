"""Converts messages of the agent protocol to AutoGen's."""

from collections.abc import Sequence
from typing import Any

from autogen_agentchat.messages import MultiModalMessage, TextMessage
from autogen_core import Image

from portico.frameworks.common.conversation_turns import Turn, conversation_turns, media, spoken_text
from portico.model.messages import Content, Message


def to_autogen(messages: Sequence[Message]) -> list[Any]:
    """Converts messages; AgentChat supports text and images, so a text names other content."""
    return [_message(turn) for turn in conversation_turns(messages)]


def _message(turn: Turn) -> Any:
    parts = [_part(content) for content in turn.contents]
    parts += [f"[called {call.name}: {call.arguments}]" for call in turn.calls]
    parts += [result.words for result in turn.results]
    if all(isinstance(part, str) for part in parts):
        return TextMessage(content="\n".join(parts), source=turn.role.value)
    return MultiModalMessage(content=parts, source=turn.role.value)


def _part(content: Content) -> Any:
    thing = media(content)
    if thing is None:
        return spoken_text(content) or ""
    if thing.kind == "image" and thing.base64:
        return Image.from_base64(thing.base64)
    return f"[{thing.kind} {thing.name}: {thing.url or thing.id or thing.media_type}]"
