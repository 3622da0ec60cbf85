"""Frames between the owner of a sandbox and the agent inside: one byte stream carries every call.

A frame is a header (payload length, call id, kind) and a payload. A call is opened by CALL and closed by
END; what lies between flows both ways at once. Bytes (OUT, ERR, IN) are sent only against credit, so a
reader that falls behind stops its own call and no other. Calls that the agent opens have the high bit set
in their id.
"""

import json
import struct
from collections.abc import Iterator
from typing import Any, Final

HEADER: Final = struct.Struct("!IIB")
MAX_FRAME: Final = 32 << 20  # bytes; a longer frame is an attack or a bug, and ends the connection
WINDOW: Final = 1 << 20  # bytes that may be on their way in one direction of one call
CHUNK: Final = 64 << 10  # bytes of one data frame
AGENT_CALL: Final = 1 << 31

CALL: Final = 1  # owner to agent, JSON with "op"; from the agent: a connection wants out
OUT: Final = 2  # agent to owner, bytes: standard output, or the content that was asked for
ERR: Final = 3  # agent to owner, bytes: standard error
EVENT: Final = 4  # agent to owner, JSON
END: Final = 5  # JSON: the result, or {"error": {...}}; the last frame of a call
IN: Final = 6  # owner to agent, bytes: standard input, or content; empty means end of file
ACK: Final = 7  # both ways, four bytes: so many more bytes may be sent
CANCEL: Final = 8  # owner to agent: end this call

# Made once: json.dumps would make another for each message.
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
_decode: Final = json.JSONDecoder().decode


class BadFrame(ValueError):
    """The other side broke the protocol; nothing more can be read from it."""


def pack(call: int, kind: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(len(payload), call, kind) + payload


def encode(message: Any) -> bytes:
    """As JSON."""
    return _encode(message).encode()


def pack_json(call: int, kind: int, message: Any) -> bytes:
    return pack(call, kind, encode(message))


def pack_ack(call: int, size: int) -> bytes:
    return pack(call, ACK, size.to_bytes(4, "big"))


def parse_json(payload: bytes) -> dict[str, Any]:
    """Raises BadFrame if the payload is not a JSON object."""
    try:
        message = _decode(payload.decode())
    except (ValueError, RecursionError) as error:
        raise BadFrame("not JSON") from error
    if not isinstance(message, dict):
        raise BadFrame("not a JSON object")
    return message


class Parser:
    """Cuts a byte stream into frames."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yields (call, kind, payload) of each whole frame. Raises BadFrame for one beyond the limit."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= HEADER.size:
                size, call, kind = HEADER.unpack_from(buffer, start)
                if size > self._limit:
                    raise BadFrame(f"a frame of {size} bytes")
                end = start + HEADER.size + size
                if len(buffer) < end:
                    break
                payload = bytes(buffer[start + HEADER.size : end])
                start = end
                yield call, kind, payload
        finally:
            del buffer[:start]
