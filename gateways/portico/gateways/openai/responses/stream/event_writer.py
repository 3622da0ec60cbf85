"""Writes the events of one response as SSE frames, numbered from 0."""

from typing import Any

import orjson

dumps = orjson.dumps
NEVER = 2**63  # a cursor after all events


class EventWriter:
    """Numbers events, and keeps the frames of those after a cursor."""

    __slots__ = ("after", "frames", "number")

    def __init__(self, frames: list[bytes], after: int) -> None:
        self.frames = frames
        self.after = after
        self.number = 0

    def event(self, type: str, fields: dict[str, Any]) -> None:
        """Adds an event with its type and number."""
        number = self.number
        self.number = number + 1
        if number > self.after:
            body = dumps({"type": type, "sequence_number": number, **fields})
            self.frames.append(b"event: %b\ndata: %b\n\n" % (type.encode(), body))


def delta_head(type: str, fields: dict[str, Any]) -> bytes:
    """Returns the bytes before the number, equal in all delta frames of a part; after the number follow
    `DELTA`, the text and `TAIL`.
    """
    told = dumps({"type": type, **fields, "sequence_number": 0})
    return b"event: %b\ndata: %b" % (type.encode(), told[:-2])


DELTA = b',"delta":'
TAIL = b"}\n\n"


def data_of(frame: bytes) -> bytes:
    """Returns the JSON of a frame."""
    return frame[frame.index(b"\ndata: ") + 7 : -2]
