"""What is at a URL."""

from portico.agent.builders import audio, file, image, video
from portico.agent.protocol import Content


def located(url: str, media_type: str) -> Content:
    """What is at a URL, as the content of its media type."""
    kind = media_type.partition("/")[0]
    if kind == "image":
        return image(url)
    if kind == "video":
        return video(url)
    return (
        audio(url, media_type.partition("/")[2]) if kind == "audio" else file(url=url, media_type=media_type)
    )
