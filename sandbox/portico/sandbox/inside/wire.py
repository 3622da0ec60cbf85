"""Frames between the owner of a sandbox and the agent inside: one byte stream carries every call.

A frame is a header (payload length, call id, kind) and a payload. A call is opened by CALL and closed by
END; what lies between flows both ways at once. OUT, ERR, EVENT, RICH and IN are sent only against credit, so
a reader that falls behind stops its own call and no other. Calls that the agent opens have the high bit set
in their id.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

HEADER: Final = struct.Struct("!IIB")
MAX_FRAME: Final = 32 << 20  # bytes; a longer frame is an attack or a bug, and ends the connection
WINDOW: Final = 1 << 20  # bytes that may be on their way in one direction of one call
OVERHEAD: Final = 64  # bytes that a frame to the owner counts beside its payload: small ones cost memory too
CHUNK: Final = 64 << 10  # bytes of one data frame
AGENT_CALL: Final = 1 << 31

CALL: Final = 1  # owner to agent, JSON with "op"; from the agent: a connection wants out
OUT: Final = 2  # agent to owner, bytes: standard output, or the content that was asked for
ERR: Final = 3  # agent to owner, bytes: standard error
EVENT: Final = 4  # agent to owner, JSON
RICH: Final = 9  # agent to owner: one object in every form it offers, as pack_rich makes it
END: Final = 5  # JSON: the result, or {"error": {...}}; the last frame of a call
IN: Final = 6  # owner to agent, bytes: standard input, or content; empty means end of file
ACK: Final = 7  # both ways, four bytes: so many more bytes may be sent
CANCEL: Final = 8  # owner to agent: end this call

PROMPT: Final = 4_000  # characters of what a cell asks for
EVENT_BYTES: Final = 64 << 10  # of one EVENT payload
END_BYTES: Final = 2 << 20  # of one END payload
OBJECT: Final = 1 << 10  # bytes of output that an object counts beside its forms: many small ones add up
FORMS: Final = 32  # of one object
FORM_BYTES: Final = 4 << 20  # of one form of an object
OBJECT_BYTES: Final = 8 << 20  # of all forms of one object
_ROLES: Final = ("display", "result")
_HEAD: Final = struct.Struct("!BB")  # of an object: its role, and how many forms it has
_FORM: Final = struct.Struct("!BI")  # of a form: the lengths of its type and of itself
RICH_BYTES: Final = _HEAD.size + FORMS * (_FORM.size + 255) + OBJECT_BYTES  # of one RICH payload

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


def output_of(kind: int, payload: bytes) -> int:
    """How many bytes of its call's output a frame counts."""
    return len(payload) + (OBJECT if kind == RICH else 0)


def is_mime_type(kind: str) -> bool:
    """Whether it may name a form."""
    return 0 < len(kind) < 256 and kind.isascii() and kind.isprintable()


def pack_rich(role: str, forms: Mapping[str, bytes]) -> bytes:
    """The payload of an object that is a "result" or a "display": the types and sizes of its forms, then the
    forms themselves, which nobody on the way reads.
    """
    parts = [_HEAD.pack(role == "result", len(forms))]
    for kind, form in forms.items():
        parts += (_FORM.pack(len(kind), len(form)), kind.encode())
    return b"".join((*parts, *forms.values()))


def unpack_rich(payload: bytes) -> tuple[str, dict[str, bytes]]:
    """The role and the forms. Raises BadFrame for what pack_rich does not make within the limits."""
    try:
        result, count = _HEAD.unpack_from(payload)
        place, sizes = _HEAD.size, []
        for _ in range(count):
            length, size = _FORM.unpack_from(payload, place)
            place += _FORM.size + length
            sizes.append((payload[place - length : place].decode(), size))
    except (struct.error, UnicodeDecodeError):
        raise BadFrame("an object without a head") from None
    forms = {}
    for kind, size in sizes:
        if size > FORM_BYTES or not is_mime_type(kind):
            raise BadFrame("a form that is too large or has no type")
        forms[kind] = payload[place : place + size]
        place += size
    if result > 1 or len(forms) != count or count > FORMS or place != len(payload) or place > RICH_BYTES:
        raise BadFrame("an object of other forms than it says")
    return _ROLES[result], forms


class Parser:
    """Cuts a byte stream into frames. `limits` are the most bytes of a payload by its frame's kind, and no
    other kinds may come; without them any kind may, up to MAX_FRAME.
    """

    def __init__(self, limits: Mapping[int, int] | None = None) -> None:
        self._buffer = bytearray()
        self._limits = limits
        self.count = 0  # whole frames so far

    @property
    def partial(self) -> bool:
        """Whether a frame has begun that is not whole yet."""
        return bool(self._buffer)

    def hold(self, data: bytes) -> None:
        """Keeps bytes for the next time."""
        self._buffer += data

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yields (call, kind, payload) of each whole frame. Raises BadFrame for one beyond the limit."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= HEADER.size:
                size, call, kind = HEADER.unpack_from(buffer, start)
                if size > (MAX_FRAME if self._limits is None else self._limits.get(kind, -1)):
                    raise BadFrame(f"a frame of kind {kind} and {size} bytes")
                end = start + HEADER.size + size
                if len(buffer) < end:
                    break
                payload = bytes(buffer[start + HEADER.size : end])
                start = end
                self.count += 1
                yield call, kind, payload
        finally:
            del buffer[:start]
