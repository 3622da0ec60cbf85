"""Small functions that make what a query function may yield.

A str is more text of the open message. Everything else is made here: a piece
of reasoning, a whole content, a whole message, usage.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from portico.agent.protocol import (
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
    """More text of the open message of this type; another type opens a message of its own."""

    text: str
    type: MessageType = MessageType.MESSAGE


@dataclass(frozen=True, slots=True)
class CallDelta:
    """More of a tool call's arguments; the first one opens the call, another call completes it."""

    call_id: str
    name: str
    arguments: str  # a piece of JSON text
    type: MessageType = MessageType.PLUGIN_CALL
    more: Mapping[str, Any] = field(default_factory=dict)  # joins the data, from the first piece


@dataclass(frozen=True, slots=True)
class NewMessage:
    """Completes the open message, so that what follows is another."""


def new_message() -> NewMessage:
    """What comes next is a message of its own."""
    return NewMessage()


def reasoning(text: str) -> Delta:
    """More of the agent's thinking aloud."""
    return Delta(text, MessageType.REASONING)


def text(value: str) -> TextContent:
    """A whole text, as one content of the open message."""
    return TextContent(value)


def data(value: Mapping[str, Any]) -> DataContent:
    """A JSON object, as one content of the open message."""
    return DataContent(value)


def image(url: str) -> ImageContent:
    """A picture by https: or data: URL."""
    return ImageContent(url)


def audio(value: str, format: str = "") -> AudioContent:
    """Sound as base64 text or URL."""
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
    """What a model consumed; belongs to the open message, or the last."""
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
    """A call that the agent makes itself; `more` joins the data, such as server_label for mcp_call."""
    call = {"call_id": call_id or f"call_{uuid4().hex}", "name": name, "arguments": _arguments(arguments)}
    return Message(Role.ASSISTANT, (DataContent({**call, **more}),), type)


def tool_call_delta(
    call_id: str, name: str, arguments: str, *, type: MessageType = MessageType.PLUGIN_CALL
) -> CallDelta:
    """More of the arguments of a call, as a model streams them."""
    return CallDelta(call_id, name, arguments, type)


def tool_output(
    call_id: str, output: Any, *, name: str = "", type: MessageType = MessageType.PLUGIN_CALL_OUTPUT
) -> Message:
    """The result of such a call; what is not a str becomes JSON text."""
    body = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    return Message(Role.TOOL, (DataContent({"call_id": call_id, "name": name, "output": body}),), type)


def function_call(name: str, arguments: Mapping[str, Any] | str, *, call_id: str = "") -> Message:
    """A call that the caller is to make and answer in its next request."""
    return tool_call(name, arguments, call_id=call_id, type=MessageType.FUNCTION_CALL)
