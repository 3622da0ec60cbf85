"""Builders for the values that a query function yields.

A yielded str adds text to the open message. The functions here build everything
else: a piece of reasoning, a complete content, a complete message, usage.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from portico.model.messages import (
    AudioContent,
    DataContent,
    FileContent,
    ImageContent,
    Message,
    MessageType,
    RefusalContent,
    Role,
    TextContent,
    Usage,
    VideoContent,
)


@dataclass(frozen=True, slots=True)
class Delta:
    """Text to append to the open message of this type; a different type opens a new message."""

    text: str
    type: MessageType = MessageType.MESSAGE


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of a tool call's arguments; the first one opens the call, a different call completes it."""

    call_id: str
    name: str
    arguments: str  # a piece of JSON text
    type: MessageType = MessageType.PLUGIN_CALL
    more: Mapping[str, Any] = field(default_factory=dict)  # further members of the data, in the first piece


@dataclass(frozen=True, slots=True)
class NewMessage:
    """Completes the open message; the next content opens a new one."""


def new_message() -> NewMessage:
    """Completes the open message; the next content opens a new one."""
    return NewMessage()


def reasoning(text: str) -> Delta:
    """Text to append to the open reasoning message."""
    return Delta(text, MessageType.REASONING)


def text(value: str) -> TextContent:
    """A complete text, as one content of the open message."""
    return TextContent(value)


def data(value: Mapping[str, Any]) -> DataContent:
    """A JSON object, as one content of the open message."""
    return DataContent(value)


def image(url: str) -> ImageContent:
    """An image by https: or data: URL."""
    return ImageContent(url)


def audio(value: str, format: str = "") -> AudioContent:
    """Audio as base64 text or URL."""
    return AudioContent(value, format)


def video(url: str) -> VideoContent:
    """A video by URL."""
    return VideoContent(url)


def file(*, url: str = "", id: str = "", name: str = "", data: str = "", media_type: str = "") -> FileContent:
    """A file by URL, by id, or as base64 text."""
    return FileContent(url, id, name, data, media_type=media_type)


def refusal(reason: str) -> RefusalContent:
    """The agent declines to answer."""
    return RefusalContent(reason)


def usage(
    *,
    input_tokens: int = 0,
    output_tokens: int = 0,
    total_tokens: int = 0,
    cached_input_tokens: int = 0,
    reasoning_output_tokens: int = 0,
    **details: Any,
) -> Usage:
    """Tokens that a model consumed; added to the open message, or to the last one if none is open."""
    return Usage(
        input_tokens, output_tokens, total_tokens, cached_input_tokens, reasoning_output_tokens, details
    )


def _arguments(value: Mapping[str, Any] | str) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def tool_call(
    name: str,
    arguments: Mapping[str, Any] | str,
    *,
    call_id: str = "",
    type: MessageType = MessageType.PLUGIN_CALL,
    **more: Any,
) -> Message:
    """A tool call that the agent executes itself.

    Args:
        arguments: An object, or JSON text.
        call_id: Generated if empty.
        more: Further members of the data, such as server_label for mcp_call.
    """
    call = {"call_id": call_id or f"call_{uuid4().hex}", "name": name, "arguments": _arguments(arguments)}
    return Message(Role.ASSISTANT, (DataContent({**call, **more}),), type)


def tool_call_delta(
    call_id: str, name: str, arguments: str, *, type: MessageType = MessageType.PLUGIN_CALL
) -> CallDelta:
    """A piece of a tool call's arguments (JSON text), as a model streams them."""
    return CallDelta(call_id, name, arguments, type)


def tool_output(
    call_id: str, output: Any, *, name: str = "", type: MessageType = MessageType.PLUGIN_CALL_OUTPUT
) -> Message:
    """The result of a tool call; an output that is not a str is encoded as JSON."""
    body = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    return Message(Role.TOOL, (DataContent({"call_id": call_id, "name": name, "output": body}),), type)


def function_call(name: str, arguments: Mapping[str, Any] | str, *, call_id: str = "") -> Message:
    """A tool call that the caller must execute and answer in its next request."""
    return tool_call(name, arguments, call_id=call_id, type=MessageType.FUNCTION_CALL)
