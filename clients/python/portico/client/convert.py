"""Converts plain Python values into the contract's messages."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from portico.v1 import events_pb2

Json: TypeAlias = Mapping[str, Any] | list[Any] | str | int | float | bool | None
MessageLike: TypeAlias = str | events_pb2.Message | Mapping[str, Any]
MessagesLike: TypeAlias = MessageLike | Iterable[MessageLike]
_DURATION_SECONDS = 315_576_000_000  # the maximum of google.protobuf.Duration
_Number = TypeVar("_Number", bound=int, covariant=True)


class Enum(Protocol[_Number]):
    """An enum of the contract."""

    def Value(self, name: str) -> _Number: ...


class JsonText(str):
    """JSON that is already text; it is sent unchanged and unparsed."""

    __slots__ = ()


def json_text(value: Json) -> str:
    """Returns the value as JSON text; None leaves the field unset."""
    if value is None:
        return ""
    if isinstance(value, JsonText):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def enum_number(enum: Enum[_Number], value: _Number | str, prefix: str) -> _Number:
    """Returns the number of an enum value that is given as a number or by its lower-case name.

    Raises:
        ValueError: The enum has no such name.
    """
    if isinstance(value, str):
        return enum.Value(f"{prefix}{value.upper()}")
    return value


def to_timestamp(value: datetime | None) -> Timestamp | None:
    """Converts a datetime; one without a time zone is read as UTC."""
    if value is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(value)
    return timestamp


def to_duration(value: float | timedelta) -> Duration:
    """Converts a duration; a number means seconds. Raises ValueError for one out of Duration's range."""
    duration = Duration()
    try:
        duration.FromTimedelta(value if isinstance(value, timedelta) else timedelta(seconds=value))
    except (ValueError, OverflowError):
        duration.seconds = _DURATION_SECONDS + 1
    if abs(duration.seconds) > _DURATION_SECONDS:
        raise ValueError(f"a duration must be at most {_DURATION_SECONDS:,} seconds, not {value}")
    return duration


def user_message(text: str) -> events_pb2.Message:
    """Returns a user message with this text."""
    return events_pb2.Message(
        type=events_pb2.MESSAGE_TYPE_MESSAGE,
        role=events_pb2.ROLE_USER,
        content=[_text(text)],
    )


def to_messages(value: MessagesLike) -> list[events_pb2.Message]:
    """Converts one message or several; each is a text of the user, a message of the contract, or a dict.

    A dict is written as in the agent protocol: role, content (a text or a list of parts such as {"type":
    "text", "text": "hello"}), and optionally id, type and metadata.

    Raises:
        TypeError: A value is of none of these types.
        ValueError: A dict is malformed.
    """
    if isinstance(value, str | events_pb2.Message | Mapping) or not isinstance(value, Iterable):
        return [_to_message(value)]
    return [_to_message(item) for item in value]


def _to_message(value: MessageLike) -> events_pb2.Message:
    if isinstance(value, events_pb2.Message):
        return value
    if isinstance(value, str):
        return user_message(value)
    if not isinstance(value, Mapping):
        raise TypeError(f"a message must be a string, a dict or a Message, not {type(value).__name__}")
    content = value.get("content") or ()
    if isinstance(content, Mapping):
        content = (content,)
    return events_pb2.Message(
        id=value.get("id", ""),
        type=enum_number(events_pb2.MessageType, value.get("type", "message"), "MESSAGE_TYPE_"),
        role=enum_number(events_pb2.Role, value.get("role", "user"), "ROLE_"),
        content=[_text(content)] if isinstance(content, str) else [_to_content(part) for part in content],
        metadata_json=json_text(value.get("metadata")),
    )


def _text(text: str) -> events_pb2.Content:
    return events_pb2.Content(type=events_pb2.CONTENT_TYPE_TEXT, text=text)


def _to_content(part: str | events_pb2.Content | Mapping[str, Any]) -> events_pb2.Content:
    if isinstance(part, events_pb2.Content):
        return part
    if isinstance(part, str):
        return _text(part)
    if not isinstance(part, Mapping):
        raise TypeError(f"a content must be a string, a dict or a Content, not {type(part).__name__}")
    kind = str(part.get("type", "text"))
    content = events_pb2.Content(type=enum_number(events_pb2.ContentType, kind, "CONTENT_TYPE_"))
    try:
        _fill(content, kind, part)
    except KeyError as error:
        raise ValueError(f"a content of type {kind!r} lacks {error}") from None
    return content


def _fill(content: events_pb2.Content, kind: str, part: Mapping[str, Any]) -> None:
    match kind:
        case "text":
            content.text = part["text"]
        case "refusal":
            content.refusal = part["refusal"]
        case "data":
            content.data_json = json_text(part["data"])
        case "image":
            content.image.image_url = part["image_url"]
        case "video":
            content.video.video_url = part["video_url"]
        case "audio":
            content.audio.data = part["data"]
            content.audio.format = part.get("format", "")
        case "file":
            given = {name: part[name] for name in _FILE_FIELDS if part.get(name)}
            content.file.CopyFrom(events_pb2.FileContent(**given))
        case _:
            raise ValueError(f"unknown content type {kind!r}")


_FILE_FIELDS = ("file_url", "file_id", "filename", "file_data")
