"""The frames between the owner of a sandbox and its supervisor: one byte stream carries all calls.

A frame is a header (payload length, call id, kind) and a payload. CALL opens a call and END closes it; frames
between them flow in both directions. OUT, ERR, EVENT, RICH and IN are sent only with credit (a flow-control
window per call and direction), so a slow reader delays only its own call. Calls that the supervisor opens
have the high bit set in their id.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

HEADER: Final = struct.Struct("!IIB")
MAX_FRAME: Final = 32 << 20  # bytes; a longer frame is an attack or a bug, and ends the connection
WINDOW: Final = 1 << 20  # bytes that may be in flight in one direction of one call
OVERHEAD: Final = 64  # bytes that a frame to the owner counts beside its payload: small ones cost memory too
CHUNK: Final = 64 << 10  # bytes of one data frame
AGENT_CALL: Final = 1 << 31

CALL: Final = 1  # owner to supervisor, JSON with "op"; from the supervisor: a connection to the outside
OUT: Final = 2  # supervisor to owner, bytes: standard output, or requested content
ERR: Final = 3  # supervisor to owner, bytes: standard error
EVENT: Final = 4  # supervisor to owner, JSON
RICH: Final = 9  # supervisor to owner: an object in all its formats, as pack_rich encodes it
END: Final = 5  # JSON: the result, or {"error": {...}}; the last frame of a call
IN: Final = 6  # owner to supervisor, bytes: standard input, or content; empty means end of file
ACK: Final = 7  # both directions, four bytes: the number of further bytes that may be sent
CANCEL: Final = 8  # owner to supervisor: end this call

PROMPT: Final = 4_000  # characters of a prompt for input
EVENT_BYTES: Final = 64 << 10  # of one EVENT payload
END_BYTES: Final = 2 << 20  # of one END payload
OBJECT: Final = 1 << 10  # bytes of output that an object counts beside its contents: many small ones add up
FORMS: Final = 32  # formats of one object
FORM_BYTES: Final = 4 << 20  # of one content of an object
OBJECT_BYTES: Final = 8 << 20  # of all contents of one object
_ROLES: Final = ("display", "result")
_HEAD: Final = struct.Struct("!BB")  # of an object: its role, and the number of its formats
_FORM: Final = struct.Struct("!BI")  # of a format: the lengths of its type and of its content
RICH_BYTES: Final = _HEAD.size + FORMS * (_FORM.size + 255) + OBJECT_BYTES  # of one RICH payload

# Made once: json.dumps would create another for each message.
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
_decode: Final = json.JSONDecoder().decode


class BadFrame(ValueError):
    """The other side violated the protocol; nothing more can be read from it."""


def pack(call: int, kind: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(len(payload), call, kind) + payload


def encode(message: Any) -> bytes:
    """Encodes a message as JSON."""
    return _encode(message).encode()


def pack_json(call: int, kind: int, message: Any) -> bytes:
    return pack(call, kind, encode(message))


def pack_ack(call: int, size: int) -> bytes:
    return pack(call, ACK, size.to_bytes(4, "big"))


def parse_json(payload: bytes) -> dict[str, Any]:
    """Decodes a JSON object. Raises BadFrame if the payload is not one."""
    try:
        message = _decode(payload.decode())
    except (ValueError, RecursionError) as error:
        raise BadFrame("not JSON") from error
    if not isinstance(message, dict):
        raise BadFrame("not a JSON object")
    return message


def output_of(kind: int, payload: bytes) -> int:
    """Returns how many bytes of its call's output a frame counts."""
    return len(payload) + (OBJECT if kind == RICH else 0)


def is_mime_type(kind: str) -> bool:
    """Whether it may be the type of a content."""
    return 0 < len(kind) < 256 and kind.isascii() and kind.isprintable()


def pack_rich(role: str, forms: Mapping[str, bytes]) -> bytes:
    """Encodes an object with the role "result" or "display": the types and sizes of its contents, then the
    contents themselves.
    """
    parts = [_HEAD.pack(role == "result", len(forms))]
    for kind, form in forms.items():
        parts += (_FORM.pack(len(kind), len(form)), kind.encode())
    return b"".join((*parts, *forms.values()))


def unpack_rich(payload: bytes) -> tuple[str, dict[str, bytes]]:
    """Decodes the role and the contents. Raises BadFrame for a payload that pack_rich does not make."""
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
            raise BadFrame("a content that is too large or has no type")
        forms[kind] = payload[place : place + size]
        place += size
    if result > 1 or len(forms) != count or count > FORMS or place != len(payload) or place > RICH_BYTES:
        raise BadFrame("an object whose contents do not match its head")
    return _ROLES[result], forms


class Parser:
    """Splits a byte stream into frames. `limits` maps the allowed kinds of frames to the most bytes of their
    payloads; without it every kind is allowed, up to MAX_FRAME.
    """

    def __init__(self, limits: Mapping[int, int] | None = None) -> None:
        self._buffer = bytearray()
        self._limits = limits
        self.count = 0  # complete frames so far

    @property
    def partial(self) -> bool:
        """Whether a frame is incomplete."""
        return bool(self._buffer)

    def hold(self, data: bytes) -> None:
        """Keeps bytes for the next call of `feed`."""
        self._buffer += data

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yields (call, kind, payload) of each complete frame. Raises BadFrame for one beyond its limit."""
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
