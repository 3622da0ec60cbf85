"""Groups the messages of the agent protocol into turns with their calls and results, as frameworks expect.

The protocol has a message for each call, each result and each piece of reasoning. A framework's assistant
message contains everything that the model produced in one turn.
"""

import binascii
import json
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote_to_bytes

from portico.model.messages import (
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

CALLS = frozenset(
    (MessageType.FUNCTION_CALL, MessageType.PLUGIN_CALL, MessageType.COMPONENT_CALL, MessageType.MCP_CALL)
)
OUTPUTS = frozenset(
    (
        MessageType.FUNCTION_CALL_OUTPUT,
        MessageType.PLUGIN_CALL_OUTPUT,
        MessageType.COMPONENT_CALL_OUTPUT,
        MessageType.MCP_CALL_OUTPUT,
    )
)


@dataclass(frozen=True, slots=True)
class TurnToolCall:
    id: str
    name: str
    arguments: str  # JSON text

    def decoded(self) -> dict[str, Any]:
        """Returns the arguments as an object; other values are stored under "arguments"."""
        try:
            value = json.loads(self.arguments or "{}")
        except ValueError:
            value = self.arguments
        return value if isinstance(value, dict) else {"arguments": value}


@dataclass(frozen=True, slots=True)
class TurnToolResult:
    call_id: str
    name: str
    output: str
    media: tuple[Content, ...] = ()  # images, audio and files of the result

    @property
    def words(self) -> str:
        """Returns the output as text; other content is named. For frameworks whose results are text."""
        things = [thing for content in self.media if (thing := media(content)) is not None]
        named = [f"[{thing.kind}: {thing.name or thing.url or thing.media_type}]" for thing in things]
        return "\n".join([self.output, *named] if self.output else named)


@dataclass(slots=True)
class Turn:
    """Consecutive content of one role. Results are a separate turn with the role tool."""

    role: Role
    id: str = ""
    contents: list[Content] = field(default_factory=list)
    reasoning: str = ""
    calls: list[TurnToolCall] = field(default_factory=list)
    results: list[TurnToolResult] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Returns all text content, joined."""
        return "\n".join(words for content in self.contents if (words := spoken_text(content)) is not None)


def conversation_turns(messages: Sequence[Message]) -> list[Turn]:
    """Joins consecutive assistant messages into one turn, and consecutive results into another."""
    said: list[Turn] = []
    for message in messages:
        if message.type is MessageType.HEARTBEAT:
            continue
        role = _role(message)
        last = said[-1] if said else None
        if last is None or last.role is not role or role in (Role.USER, Role.SYSTEM):
            last = Turn(role, message.id)
            said.append(last)
        _join(last, message)
    return said


def _role(message: Message) -> Role:
    if message.type in CALLS or message.type is MessageType.REASONING:
        return Role.ASSISTANT
    return Role.TOOL if message.type in OUTPUTS else message.role


def _join(turn: Turn, message: Message) -> None:
    for content in message.content:
        data = content.data if isinstance(content, DataContent) else {}
        id, name = str(data.get("call_id") or ""), str(data.get("name") or "")
        if message.type in CALLS and data:
            turn.calls.append(TurnToolCall(id, name, _words(data.get("arguments", "{}"))))
        elif turn.role is Role.TOOL and turn.results and media(content) is not None:
            # An image belongs to the preceding result; it is no separate result.
            last = turn.results[-1]
            turn.results[-1] = replace(last, media=(*last.media, content))
        elif turn.role is Role.TOOL:
            output = _words(data["output"]) if "output" in data else spoken_text(content) or ""
            turn.results.append(TurnToolResult(id, name, output))
        elif message.type is MessageType.REASONING:
            turn.reasoning += spoken_text(content) or ""
        else:
            turn.contents.append(content)


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def spoken_text(content: Content) -> str | None:
    """Returns a content as text; None for images, audio, video and files."""
    if isinstance(content, TextContent):
        return content.text
    if isinstance(content, DataContent):
        return json.dumps(content.data, ensure_ascii=False)
    return content.refusal if isinstance(content, RefusalContent) else None


@dataclass(frozen=True, slots=True)
class Media:
    """An image, audio, video or file: by URL, by an id of the model's provider, or as base64."""

    kind: str  # image | audio | video | file
    url: str = ""
    base64: str = ""
    id: str = ""
    media_type: str = ""
    name: str = ""

    @property
    def data_url(self) -> str:
        """Returns the URL, or a data: URL with the bytes."""
        return self.url or f"data:{self.media_type or 'application/octet-stream'};base64,{self.base64}"

    @property
    def bytes(self) -> bytes:
        """Returns the decoded bytes. Raises ValueError for invalid base64."""
        try:
            return b64decode(self.base64, validate=True)
        except binascii.Error:
            raise ValueError(f"the {self.kind} is not base64") from None


_USUAL = {
    "image": "image/png",
    "audio": "audio/wav",
    "video": "video/mp4",
    "file": "application/octet-stream",
}


def media(content: Content) -> Media | None:
    """Returns the media of a content, with data: URLs decoded; None for other content."""
    match content:
        case ImageContent(image_url=url):
            return _located("image", url, content.media_type)
        case VideoContent(video_url=url):
            return _located("video", url, content.media_type)
        case AudioContent(data=data, format=format):
            type = content.media_type or (f"audio/{format}" if format else "")
            if data.startswith(("https:", "http:", "data:")):
                return _located("audio", data, type)
            return Media("audio", base64=data, media_type=type or _USUAL["audio"])
        case FileContent():
            type, name = content.media_type or _USUAL["file"], content.filename
            if content.file_data and not content.file_data.startswith("data:"):
                return Media("file", base64=content.file_data, media_type=type, name=name)
            if content.file_id and not content.file_url and not content.file_data:
                return Media("file", id=content.file_id, media_type=type, name=name)
            return _located("file", content.file_data or content.file_url, content.media_type, name)
    return None


def _located(kind: str, url: str, media_type: str, name: str = "") -> Media:
    if not url.startswith("data:"):
        return Media(kind, url=url, media_type=media_type or _USUAL[kind], name=name)
    head, _, body = url.removeprefix("data:").partition(",")
    type, *parameters = head.split(";")
    if "base64" not in parameters:
        body = binascii.b2a_base64(unquote_to_bytes(body), newline=False).decode()
    return Media(kind, base64=body, media_type=media_type or type or _USUAL[kind], name=name)


def answer_value(answer: Sequence[Message]) -> Any:
    """Returns the data of an answer if it has some, or else its text."""
    contents = [content for message in answer for content in message.content]
    for content in contents:
        if isinstance(content, DataContent):
            return dict(content.data)
    return "".join(content.text for content in contents if isinstance(content, TextContent))
