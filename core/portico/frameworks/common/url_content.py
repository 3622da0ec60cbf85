"""Builds a content from a URL."""

from portico.agent.builders import audio, file, image, video
from portico.model.messages import Content


def content_from_url(url: str, media_type: str, name: str = "") -> Content:
    """Returns a URL as content of its media type; audio and files in a data: URL become base64."""
    kind = media_type.partition("/")[0]
    if kind == "image":
        return image(url)
    if kind == "video":
        return video(url)
    base64 = url.partition(";base64,")[2] if url.startswith("data:") else ""
    if kind == "audio":
        return audio(base64 or url, media_type.partition("/")[2])
    if base64:
        return file(data=base64, name=name, media_type=media_type)
    return file(url=url, name=name, media_type=media_type)
