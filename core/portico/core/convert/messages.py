"""Converts messages and contents, in both directions."""

from collections.abc import Iterable
from typing import Any

import orjson

from portico.core.convert.enums import (
    ROLE_FROM_PROTO,
    ROLE_TO_PROTO,
    STATUS_FROM_PROTO,
    STATUS_TO_PROTO,
    TYPE_FROM_PROTO,
    TYPE_TO_PROTO,
)
from portico.core.errors import InvalidArgument
from portico.model.ids import new_id
from portico.model.messages import (
    AudioContent,
    Content,
    DataContent,
    Error,
    FileContent,
    ImageContent,
    Message,
    MessageType,
    RefusalContent,
    Role,
    Status,
    TextContent,
    Usage,
    VideoContent,
)
from portico.v1 import events_pb2 as pb

JSON_CHARACTERS = 1024 * 1024
DEEPEST = 200
STORED_CHARACTERS = 2**31  # no limit for stored values: they were checked when they were accepted


def dump(value: Any) -> str:
    """Encodes a value as JSON; empty text for an empty object."""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode() if value else ""


def load_object(text: str, field: str, characters: int = JSON_CHARACTERS) -> dict[str, Any]:
    """Decodes a JSON object; empty for empty text. Raises InvalidArgument."""
    if not text:
        return {}
    if len(text) > characters:
        raise InvalidArgument(field, f"more than {characters} characters")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(field, f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArgument(field, "must be a JSON object")
    if text.count("{") + text.count("[") > DEEPEST:
        # orjson reads deeper nesting than it writes; an accepted value must be writable.
        try:
            orjson.dumps(value)
        except TypeError:
            raise InvalidArgument(field, "is nested too deeply") from None
    return value


def set_content(target: pb.Content, content: Content) -> None:
    """Sets type and value."""
    if content.media_type or content.metadata:
        target.media_type, target.metadata_json = content.media_type, dump(content.metadata)
    match content:
        case TextContent(text):
            target.type = pb.CONTENT_TYPE_TEXT
            target.text = text
        case DataContent(data):
            target.type = pb.CONTENT_TYPE_DATA
            target.data_json = dump(data) or "{}"
        case ImageContent(image_url):
            target.type = pb.CONTENT_TYPE_IMAGE
            target.image.image_url = image_url
        case AudioContent(data, format):
            target.type = pb.CONTENT_TYPE_AUDIO
            target.audio.data, target.audio.format = data, format
        case FileContent():
            target.type = pb.CONTENT_TYPE_FILE
            target.file.SetInParent()
            target.file.file_url, target.file.file_id = content.file_url, content.file_id
            target.file.filename, target.file.file_data = content.filename, content.file_data
        case RefusalContent(refusal):
            target.type = pb.CONTENT_TYPE_REFUSAL
            target.refusal = refusal
        case VideoContent(video_url):
            target.type = pb.CONTENT_TYPE_VIDEO
            target.video.video_url = video_url


def content_from_proto(
    content: pb.Content, field: str = "content", characters: int = JSON_CHARACTERS
) -> Content:
    """Converts a content. Raises InvalidArgument if it is empty."""
    about: dict[str, Any] = {}
    if content.media_type or content.metadata_json:
        about["media_type"] = content.media_type
        about["metadata"] = load_object(content.metadata_json, f"{field}.metadata_json", characters)
    match content.WhichOneof("value"):
        case "text":
            return TextContent(content.text, **about)
        case "data_json":
            return DataContent(load_object(content.data_json, f"{field}.data_json", characters), **about)
        case "image":
            return ImageContent(content.image.image_url, **about)
        case "audio":
            return AudioContent(content.audio.data, content.audio.format, **about)
        case "file":
            file = content.file
            return FileContent(file.file_url, file.file_id, file.filename, file.file_data, **about)
        case "refusal":
            return RefusalContent(content.refusal, **about)
        case "video":
            return VideoContent(content.video.video_url, **about)
    raise InvalidArgument(field, "is empty; set text, data_json, image, audio, file, refusal or video")


def usage_to_proto(usage: Usage, target: pb.Usage) -> None:
    target.input_tokens, target.output_tokens = usage.input_tokens, usage.output_tokens
    target.total_tokens = usage.total
    target.cached_input_tokens = usage.cached_input_tokens
    target.reasoning_output_tokens = usage.reasoning_output_tokens
    target.details_json = dump(usage.details)


def usage_from_proto(usage: pb.Usage, field: str = "usage") -> Usage:
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        usage.cached_input_tokens,
        usage.reasoning_output_tokens,
        load_object(usage.details_json, f"{field}.details_json"),
    )


def error_to_proto(error: Error, target: pb.Error) -> None:
    target.code, target.message = error.code, error.message


def set_message(target: pb.Message, message: Message) -> None:
    """Sets all fields except the contents."""
    target.id = message.id
    target.type = TYPE_TO_PROTO[message.type]
    target.status = STATUS_TO_PROTO[message.status]
    target.role = ROLE_TO_PROTO[message.role]
    if message.error is not None:
        error_to_proto(message.error, target.error)
    if message.usage is not None:
        usage_to_proto(message.usage, target.usage)
    if message.metadata:
        target.metadata_json = dump(message.metadata)
    target.extensions.extend(message.extensions)
    target.reference_run_ids.extend(message.reference_run_ids)


def message_to_proto(message: Message) -> pb.Message:
    """Converts a complete message and numbers its contents."""
    target = pb.Message()
    set_message(target, message)
    status = STATUS_TO_PROTO[message.status]
    for index, content in enumerate(message.content):
        part = target.content.add(index=index, msg_id=message.id, status=status)
        set_content(part, content)
    return target


def message_from_proto(message: pb.Message, field: str = "message", *, new: bool = False) -> Message:
    """Converts a message; `new` generates a missing id and sets the status completed. Raises
    InvalidArgument."""
    characters = JSON_CHARACTERS if new else STORED_CHARACTERS
    contents = tuple(
        content_from_proto(part, f"{field}.content[{index}]", characters)
        for index, part in enumerate(message.content)
    )
    if len(message.id) > 256:
        raise InvalidArgument(f"{field}.id", "more than 256 characters")
    status = STATUS_FROM_PROTO.get(message.status, Status.CREATED)
    return Message(
        role=ROLE_FROM_PROTO.get(message.role, Role.USER if new else Role.ASSISTANT),
        content=contents,
        type=TYPE_FROM_PROTO.get(message.type, MessageType.MESSAGE),
        id=message.id or (new_id("msg_") if new else ""),
        status=Status.COMPLETED if new else status,
        metadata=load_object(message.metadata_json, f"{field}.metadata_json"),
        usage=usage_from_proto(message.usage, f"{field}.usage") if message.HasField("usage") else None,
        error=Error(message.error.code, message.error.message) if message.HasField("error") else None,
        extensions=tuple(message.extensions),
        reference_run_ids=tuple(message.reference_run_ids),
    )


def messages_from_proto(messages: Iterable[pb.Message], field: str) -> list[Message]:
    """Converts new messages of a request. Raises InvalidArgument."""
    return [
        message_from_proto(message, f"{field}[{index}]", new=True) for index, message in enumerate(messages)
    ]
