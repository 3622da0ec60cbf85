"""Renders contents that output messages can't hold as text for any client, and reads the data of calls."""

from typing import Any

import orjson

from portico.gateways.openai.json_depth import deep_members
from portico.v1 import events_pb2 as pb


def content_text(content: pb.Content) -> str | None:
    """Returns Markdown for a content with a URL, and JSON for data; None for an empty or unknown content."""
    match content.WhichOneof("value"):
        case "text":
            return content.text
        case "refusal":
            return content.refusal
        case "data_json":
            return content.data_json
        case "image":
            return f"![image]({_target(content.image.image_url)})"
        case "video":
            return f"[video]({_target(content.video.video_url)})"
        case "audio":
            media_type = f"audio/{content.audio.format or 'wav'}"
            return f"[audio]({_target(_url(content.audio.data, media_type))})"
        case "file":
            return _file(content.file)
    return None


def content_data(content: pb.Content) -> dict[str, Any]:
    """Returns the object of a data content; empty for other contents. Members nested too deeply for embedding
    become JSON text.
    """
    value = orjson.loads(content.data_json) if content.data_json else None
    if not isinstance(value, dict):
        return {}
    for name in deep_members(value, content.data_json):
        value[name] = content_as_text(value[name])
    return value


def content_as_text(value: Any) -> str:
    """Converts a value of a call's data to a string."""
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()


def _file(file: pb.FileContent) -> str:
    name = file.filename or file.file_id or "file"
    for mark in "\\[]":
        name = name.replace(mark, f"\\{mark}")
    if file.file_url:
        return f"[{name}]({_target(file.file_url)})"
    if file.file_data:
        return f"[{name}]({_target(_url(file.file_data, 'application/octet-stream'))})"
    return f"[{name}]({_target(file.file_id)})" if file.file_id else f"[{name}]"


def _url(data: str, media_type: str) -> str:
    """Returns a URL for data that is a URL already or base64 text."""
    scheme = data[:8].lower()
    return data if scheme.startswith(("https:", "http:", "data:")) else f"data:{media_type};base64,{data}"


def _target(url: str) -> str:
    """Escapes a URL so that a Markdown link does not end early."""
    return url.replace(" ", "%20").replace("\n", "").replace("(", "%28").replace(")", "%29")
