"""Converts A2A's parts and messages to the contract's contents and messages, and back."""

import base64
import binascii
from collections.abc import Iterable
from typing import Any

import orjson
from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import InvalidParamsError
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.struct_pb2 import Struct

from portico.v1 import events_pb2 as pb

_USER = a2a.ROLE_USER
_AGENT = a2a.ROLE_AGENT
# Key that wraps data other than objects, since a content's data must be an object.
_WRAPPED = "$value"


def to_message(message: a2a.Message) -> pb.Message:
    """Converts a caller's message. Raises InvalidParamsError."""
    told = pb.Message(
        id=message.message_id,
        type=pb.MESSAGE_TYPE_MESSAGE,
        role=pb.ROLE_ASSISTANT if message.role == _AGENT else pb.ROLE_USER,
        metadata_json=struct_json(message.metadata),
        extensions=message.extensions,
        reference_run_ids=message.reference_task_ids,
    )
    for index, part in enumerate(message.parts):
        _to_content(part, told.content.add(index=index), f"message.parts[{index}]")
    return told


def from_message(message: pb.Message, task_id: str, context_id: str) -> a2a.Message:
    """Converts a message for the history."""
    return a2a.Message(
        message_id=message.id,
        task_id=task_id,
        context_id=context_id,
        role=_AGENT if message.role in (pb.ROLE_ASSISTANT, pb.ROLE_TOOL) else _USER,
        parts=from_contents(message.content),
        metadata=json_struct(message.metadata_json),
        extensions=message.extensions,
        reference_task_ids=message.reference_run_ids,
    )


def from_contents(contents: Iterable[pb.Content]) -> list[a2a.Part]:
    """Converts contents to at least one part: a message must have parts."""
    return [from_content(content) for content in contents] or [a2a.Part(text="")]


def from_content(content: pb.Content) -> a2a.Part:
    """Converts a content to a part; types that A2A lacks become data."""
    part = a2a.Part(
        media_type=content.media_type,
        filename=content.filename,
        metadata=json_struct(content.metadata_json),
    )
    match content.WhichOneof("value"):
        case "data_json":
            _from_data(content.data_json or "{}", part)
        case "image":
            _from_url(content.image.image_url, part)
        case "video":
            _from_url(content.video.video_url, part)
        case "audio":
            _from_audio(content.audio, part)
        case "file":
            _from_file(content.file, part)
        case "refusal":
            part.text = content.refusal
        case _:
            part.text = content.text
    return part


def data_as_text(content: pb.Content) -> a2a.Part:
    """Converts a data content to a text part, for callers that accept text only."""
    text = orjson.dumps(_unwrapped(orjson.loads(content.data_json or "{}"))).decode()
    return a2a.Part(text=text, filename=content.filename, metadata=json_struct(content.metadata_json))


def struct_json(value: Struct) -> str:
    """Returns a struct as JSON text; empty for an empty one."""
    return orjson.dumps(MessageToDict(value)).decode() if value.fields else ""


def json_struct(text: str) -> Struct | None:
    """Returns a JSON object as a struct; None for empty text, or an object that is nested too deeply for a
    Struct.
    """
    if not text:
        return None
    try:
        return ParseDict(orjson.loads(text), Struct())
    except ParseError:
        return None  # nested too deeply for a Struct


def _to_content(part: a2a.Part, content: pb.Content, field: str) -> None:
    content.metadata_json = struct_json(part.metadata)
    content.media_type = part.media_type
    kind = part.media_type.partition("/")[0]
    match part.WhichOneof("content"):
        case "text":
            content.type = pb.CONTENT_TYPE_TEXT
            content.text = part.text
            content.filename = part.filename
        case "data":
            content.type = pb.CONTENT_TYPE_DATA
            content.filename = part.filename
            value = MessageToDict(part.data)
            content.data_json = orjson.dumps(value if isinstance(value, dict) else {_WRAPPED: value}).decode()
        case "raw" | "url" as form:
            url = part.url or f"data:{part.media_type};base64,{base64.b64encode(part.raw).decode()}"
            content.filename = part.filename
            if kind == "image":
                content.type = pb.CONTENT_TYPE_IMAGE
                content.image.image_url = url
            elif kind == "video":
                content.type = pb.CONTENT_TYPE_VIDEO
                content.video.video_url = url
            elif kind == "audio":
                content.type = pb.CONTENT_TYPE_AUDIO
                content.audio.data = part.url or base64.b64encode(part.raw).decode()
                content.audio.format = part.media_type.partition("/")[2]
            else:
                content.type = pb.CONTENT_TYPE_FILE
                content.ClearField("filename")
                content.file.filename = part.filename
                if form == "url":
                    content.file.file_url = part.url
                else:
                    content.file.file_data = base64.b64encode(part.raw).decode()
        case _:
            raise InvalidParamsError(
                message="Validation failed",
                data={"errors": [{"field": field, "message": "text, raw, url or data is required."}]},
            )


def _from_data(text: str, part: a2a.Part) -> None:
    try:
        ParseDict(_unwrapped(orjson.loads(text)), part.data)
    except ParseError:
        part.text = text  # nested too deeply for a Struct
        part.media_type = "application/json"


def _unwrapped(value: dict[str, Any]) -> Any:
    return value[_WRAPPED] if list(value) == [_WRAPPED] else value


def _from_url(url: str, part: a2a.Part) -> None:
    if url.startswith("data:"):
        head, _, body = url.removeprefix("data:").partition(",")
        media_type, *options = head.split(";")
        raw = _decoded(body) if "base64" in options else None
        if raw is not None:
            part.raw = raw
            part.media_type = media_type or part.media_type
            return
    part.url = url


def _from_audio(audio: pb.AudioContent, part: a2a.Part) -> None:
    if not part.media_type and audio.format:
        part.media_type = f"audio/{audio.format}"
    raw = None if "://" in audio.data[:16] else _decoded(audio.data)
    if raw is None:
        _from_url(audio.data, part)
    else:
        part.raw = raw


def _from_file(file: pb.FileContent, part: a2a.Part) -> None:
    part.filename = file.filename
    raw = _decoded(file.file_data) if file.file_data else None
    if raw is not None:
        part.raw = raw
    elif file.file_url:
        _from_url(file.file_url, part)
    else:
        part.data.struct_value["file_id"] = file.file_id


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
