"""The storage formats of large values: plain, compressed, or with references to other rows of the run.

A frame begins with a protobuf tag and so does a message, and every tag is greater than the marks (first
bytes) of the other formats. So values that earlier releases stored without a mark are read as plain.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence

LARGE_BYTES = 64 * 1024  # frames from this size on are compared with earlier rows
MIN_MATCH_BYTES = 4096
MIN_PACKED_BYTES = 2048  # smaller values are not compressed
MIN_TEXT_BYTES = 4096  # in payloads from this size on the text is stored as a reference
_LEVEL = 3
_ANCHOR_BYTES = 64

_DEFLATED, _REFERRING, _PLAIN = b"\x01", b"\x02", b"\x03"
_LAST_MARK = 3
_COUNT = struct.Struct("<H")
_REFERENCE = struct.Struct("<QIII")  # first event of the other row; offset here, offset there, length
_PLACE = struct.Struct("<cII")

EventRow = tuple[int, bytes]  # sequence number of its first event, and its frame
Reference = tuple[int, int, int, int]


def encode_plain(data: bytes) -> bytes:
    """Return the data in the plain format: with a mark if it begins like another format."""
    return _PLAIN + data if data and data[0] <= _LAST_MARK else data


def compress(stored: bytes) -> bytes | None:
    """Compress a stored value; None if it is small, compressed already, or would save less than an eighth."""
    mark = stored[:1]
    if mark == _DEFLATED or len(stored) < MIN_PACKED_BYTES:
        return None
    if mark == _REFERRING:
        head = _COUNT.size + 1 + _COUNT.unpack_from(stored, 1)[0] * _REFERENCE.size
        literals = compress(stored[head:])
        return None if literals is None else stored[:head] + literals
    smaller = _DEFLATED + zlib.compress(stored[1:] if mark == _PLAIN else stored, _LEVEL)
    return smaller if len(smaller) < len(stored) - len(stored) // 8 else None


def decompress(stored: bytes, row: Callable[[int], bytes] | None = None) -> bytes:
    """Return the data of a stored value. `row` returns the frame of the same run with that first event."""
    if not stored or stored[0] > _LAST_MARK:
        return stored
    mark = stored[:1]
    if mark == _PLAIN:
        return stored[1:]
    if mark == _DEFLATED:
        return zlib.decompress(memoryview(stored)[1:])
    if mark != _REFERRING or row is None:
        raise ValueError("the value is stored in a format that this release does not support")
    return _resolved(stored, row)


def compress_with_references(data: bytes, earlier: Sequence[EventRow]) -> bytes | None:
    """Replace content that earlier rows of the run contain by references; None if there is little of it."""
    found = sorted(_matches(data, earlier))
    parts: list[bytes] = []
    references: list[Reference] = []
    end = 0
    for at, first, there, length in found:
        if at < end:
            continue
        parts.append(data[end:at])
        references.append((first, at, there, length))
        end = at + length
    if not references:
        return None
    parts.append(data[end:])
    head = b"".join(_REFERENCE.pack(*reference) for reference in references)
    return _REFERRING + _COUNT.pack(len(references)) + head + encode_plain(b"".join(parts))


def encode_text(text: str, payload: bytes) -> str | bytes:
    """Return a message's text as it is stored: its place in a large payload, or the text itself."""
    if not payload or len(payload) < MIN_TEXT_BYTES:
        return text
    data = text.encode()
    place = payload.find(data)
    return text if place < 0 else _PLACE.pack(_REFERRING, place, len(data))


def decode_text(stored: str | bytes, payload: bytes | None) -> str:
    """Return the text that `encode_text` stored."""
    if isinstance(stored, str):
        return stored
    assert payload is not None
    _, place, length = _PLACE.unpack(stored)
    return decompress(payload)[place : place + length].decode()


def _resolved(stored: bytes, row: Callable[[int], bytes]) -> bytes:
    (count,) = _COUNT.unpack_from(stored, 1)
    position = 1 + _COUNT.size
    literals = decompress(stored[position + count * _REFERENCE.size :])
    parts: list[bytes] = []
    written = used = 0
    for _ in range(count):
        first, at, there, length = _REFERENCE.unpack_from(stored, position)
        position += _REFERENCE.size
        parts.append(literals[used : used + at - written])
        used += at - written
        parts.append(row(first)[there : there + length])
        written = at + length
    parts.append(literals[used:])
    return b"".join(parts)


def _matches(data: bytes, earlier: Sequence[EventRow]) -> Iterator[Reference]:
    """Yield content that the data shares with earlier rows, at most once per row.

    Each is the offset in the data, the row's first event, the offset in the row, and the length.
    """
    for first, source in earlier:
        # The repeated content is at the end of an earlier row, so the search starts from its last quarter.
        middle = len(source) * 3 // 4
        place = data.find(source[middle : middle + _ANCHOR_BYTES])
        if place < 0:
            continue
        before = _same_before(source, middle, data, place)
        length = before + _same_behind(source, middle, data, place)
        if length >= MIN_MATCH_BYTES:
            yield place - before, first, middle - before, length


def _same_behind(one: bytes, i: int, other: bytes, j: int) -> int:
    most = min(len(one) - i, len(other) - j)
    same = 0
    step = LARGE_BYTES
    while step:
        while same + step <= most and one[i + same : i + same + step] == other[j + same : j + same + step]:
            same += step
        step //= 8
    return same


def _same_before(one: bytes, i: int, other: bytes, j: int) -> int:
    most = min(i, j)
    same = 0
    step = LARGE_BYTES
    while step:
        while same + step <= most and one[i - same - step : i - same] == other[j - same - step : j - same]:
            same += step
        step //= 8
    return same
