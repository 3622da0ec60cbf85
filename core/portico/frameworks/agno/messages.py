"""Converts messages of the agent protocol to Agno's."""

from collections.abc import Sequence
from typing import Any

from agno.media import Audio, File, Image, Video
from agno.models.message import Message as AgnoMessage

from portico.frameworks.common.conversation_turns import Media, Turn, conversation_turns, media
from portico.model.messages import Message, Role

_MEDIA: dict[str, Any] = {"image": Image, "audio": Audio, "video": Video, "file": File}
_PLURAL = {"image": "images", "audio": "audio", "video": "videos", "file": "files"}


def to_agno(messages: Sequence[Message]) -> list[AgnoMessage]:
    """Converts messages to one for each turn and one for each result."""
    return [message for turn in conversation_turns(messages) for message in _messages(turn)]


def _messages(turn: Turn) -> list[AgnoMessage]:
    if turn.role is Role.TOOL:
        return [
            AgnoMessage(role="tool", content=r.words, tool_call_id=r.call_id, tool_name=r.name)
            for r in turn.results
        ]
    fields: dict[str, Any] = {}
    for content in turn.contents:
        thing = media(content)
        if thing is not None:
            fields.setdefault(_PLURAL[thing.kind], []).append(_native(thing))
    if turn.calls:
        fields["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in turn.calls
        ]
    thought = turn.reasoning or None
    return [AgnoMessage(role=turn.role.value, content=turn.text, reasoning_content=thought, **fields)]


def _native(thing: Media) -> Any:
    about: dict[str, Any] = {"mime_type": thing.media_type}
    if thing.kind == "file":
        about["filename"] = thing.name or None
    else:
        about["format"] = thing.media_type.partition("/")[2]
    if thing.url:
        return _MEDIA[thing.kind](url=thing.url, **about)
    if thing.id:
        return _MEDIA[thing.kind](id=thing.id, content=b"", **about)
    return _MEDIA[thing.kind](content=thing.bytes, **about)
