"""Converts dicts that a query function yields to messages and contents."""

from collections.abc import Mapping
from typing import Any

from portico.model.messages import (
    CONTENT_TYPES,
    AudioContent,
    Content,
    DataContent,
    FileContent,
    ImageContent,
    Message,
    MessageType,
    RefusalContent,
    Role,
    TextContent,
    VideoContent,
)

_BUILD: Mapping[str, Any] = {
    "text": lambda d: TextContent(str(d["text"])),
    "data": lambda d: DataContent(dict(d["data"])),
    "image": lambda d: ImageContent(str(d["image_url"])),
    "audio": lambda d: AudioContent(str(d["data"]), str(d.get("format") or "")),
    "file": lambda d: FileContent(
        *(str(d.get(name) or "") for name in ("file_url", "file_id", "filename", "file_data"))
    ),
    "refusal": lambda d: RefusalContent(str(d["refusal"])),
    "video": lambda d: VideoContent(str(d["video_url"])),
}
_MARK = {"image": "image_url", "video": "video_url", "audio": "data", "file": None}


def from_dict(value: Mapping[str, Any]) -> Message | Content:
    """Converts to a message if `object` is "message" or role and content exist, to a content of the agent
    protocol if `type` names one, else to a DataContent."""
    if value.get("object") == "message" or ("role" in value and "content" in value):
        return _message(value)
    return _content(value) or DataContent(value)


def _message(value: Mapping[str, Any]) -> Message:
    body = value.get("content") or []
    if isinstance(body, str | Mapping):
        body = [body]
    return Message(
        role=Role(value.get("role") or "assistant"),
        content=tuple(map(_part, body)),
        type=MessageType(value.get("type") or "message"),
        id=str(value.get("id") or ""),
        metadata=dict(value.get("metadata") or {}),
    )


def _part(value: Any) -> Content:
    if isinstance(value, str):
        return TextContent(value)
    if isinstance(value, CONTENT_TYPES):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"a content must be a str or a dict, not {type(value).__name__}")
    return _content(value) or DataContent(value)


def _content(value: Mapping[str, Any]) -> Content | None:
    kind = str(value.get("type"))
    if kind not in _BUILD:
        return None
    mark = _MARK.get(kind, kind)
    if mark is not None and mark not in value:
        return None
    content: Content = _BUILD[kind](value)
    return content
