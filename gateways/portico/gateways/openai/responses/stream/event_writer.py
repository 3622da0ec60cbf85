"""Events of one response as SSE frames, numbered from 0."""

from typing import Any

import orjson

dumps = orjson.dumps
NEVER = 2**63  # a cursor that no event is beyond


class Writer:
    """Numbers events, and keeps the frames of those beyond a cursor."""

    __slots__ = ("after", "frames", "number")

    def __init__(self, frames: list[bytes], after: int) -> None:
        self.frames = frames
        self.after = after
        self.number = 0

    def event(self, type: str, fields: dict[str, Any]) -> None:
        """One event; the type and the number are added."""
        number = self.number
        self.number = number + 1
        if number > self.after:
            body = dumps({"type": type, "sequence_number": number, **fields})
            self.frames.append(b"event: %b\ndata: %b\n\n" % (type.encode(), body))


def delta_head(type: str, fields: dict[str, Any]) -> bytes:
    """What comes before the number in all delta frames of one part; then `DELTA`, the text and `TAIL`."""
    told = dumps({"type": type, **fields, "sequence_number": 0})
    return b"event: %b\ndata: %b" % (type.encode(), told[:-2])


DELTA = b',"delta":'
TAIL = b"}\n\n"


def data_of(frame: bytes) -> bytes:
    """The JSON of a frame."""
    return frame[frame.index(b"\ndata: ") + 7 : -2]
