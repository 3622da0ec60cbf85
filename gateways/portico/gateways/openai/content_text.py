"""Contents that an output message can't hold, as text that every client can show; and the data of calls."""

from typing import Any

import orjson

from portico.gateways.openai.json_depth import deep_members
from portico.v1 import events_pb2 as pb


def content_text(content: pb.Content) -> str | None:
    """Markdown for what has a URL, JSON for data; None when it holds nothing that we know."""
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
    """The object of a data content; empty for what is none. What is nested too deeply to be told inside
    other things becomes its JSON text."""
    value = orjson.loads(content.data_json) if content.data_json else None
    if not isinstance(value, dict):
        return {}
    for name in deep_members(value, content.data_json):
        value[name] = as_text(value[name])
    return value


def as_text(value: Any) -> str:
    """A value of a call's data that should be a text."""
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
    """Data that is a URL already, or base64 text."""
    scheme = data[:8].lower()
    return data if scheme.startswith(("https:", "http:", "data:")) else f"data:{media_type};base64,{data}"


def _target(url: str) -> str:
    """A link's target that ends where the URL does."""
    return url.replace(" ", "%20").replace("\n", "").replace("(", "%28").replace(")", "%29")
