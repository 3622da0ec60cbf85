"""How large things are stored: as they are, compressed, or with references to what is stored already.

A frame begins with the tag of its first event and a message with that of a field, and no tag is as small
as the marks that begin the other forms. So what earlier releases stored is read as it is.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence

LARGE_BYTES = 64 * 1024  # what is larger may repeat another row
MIN_MATCH_BYTES = 4096
MIN_PACKED_BYTES = 2048  # what is smaller is not compressed
MIN_TEXT_BYTES = 4096  # of a payload that a text is looked for in
_LEVEL = 3
_ANCHOR_BYTES = 64

_DEFLATED, _REFERRING, _PLAIN = b"\x01", b"\x02", b"\x03"
_LAST_MARK = 3
_COUNT = struct.Struct("<H")
_REFERENCE = struct.Struct("<QIII")  # the row's first event; where in this, where in that, how long
_PLACE = struct.Struct("<cII")

Row = tuple[int, bytes]  # the number of its first event, and its frame
Reference = tuple[int, int, int, int]


def plain(data: bytes) -> bytes:
    """The data in a form that is read as what it is."""
    return _PLAIN + data if data and data[0] <= _LAST_MARK else data


def packed(stored: bytes) -> bytes | None:
    """The same, smaller; None if it is small, packed already, or would not be an eighth smaller."""
    mark = stored[:1]
    if mark == _DEFLATED or len(stored) < MIN_PACKED_BYTES:
        return None
    if mark == _REFERRING:
        head = _COUNT.size + 1 + _COUNT.unpack_from(stored, 1)[0] * _REFERENCE.size
        literals = packed(stored[head:])
        return None if literals is None else stored[:head] + literals
    smaller = _DEFLATED + zlib.compress(stored[1:] if mark == _PLAIN else stored, _LEVEL)
    return smaller if len(smaller) < len(stored) - len(stored) // 8 else None


def unpacked(stored: bytes, row: Callable[[int], bytes] | None = None) -> bytes:
    """The data. `row` has the frame of the same run that begins with an event."""
    if not stored or stored[0] > _LAST_MARK:
        return stored
    mark = stored[:1]
    if mark == _PLAIN:
        return stored[1:]
    if mark == _DEFLATED:
        return zlib.decompress(memoryview(stored)[1:])
    if mark != _REFERRING or row is None:
        raise ValueError("stored in a form that this release does not know")
    return _resolved(stored, row)


def referring(data: bytes, earlier: Sequence[Row]) -> bytes | None:
    """The frame with references to rows of its run in place of what they have too; None if that is little."""
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
    return _REFERRING + _COUNT.pack(len(references)) + head + plain(b"".join(parts))


def placed(text: str, payload: bytes) -> str | bytes:
    """A message's text as it is stored: where it is in a large payload, or itself."""
    if not payload or len(payload) < MIN_TEXT_BYTES:
        return text
    data = text.encode()
    place = payload.find(data)
    return text if place < 0 else _PLACE.pack(_REFERRING, place, len(data))


def text_of(stored: str | bytes, payload: bytes | None) -> str:
    """The reverse of `placed`."""
    if isinstance(stored, str):
        return stored
    assert payload is not None
    _, place, length = _PLACE.unpack(stored)
    return unpacked(payload)[place : place + length].decode()


def _resolved(stored: bytes, row: Callable[[int], bytes]) -> bytes:
    (count,) = _COUNT.unpack_from(stored, 1)
    position = 1 + _COUNT.size
    literals = unpacked(stored[position + count * _REFERENCE.size :])
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


def _matches(data: bytes, earlier: Sequence[Row]) -> Iterator[Reference]:
    """Where in the data, which row, where in that, and how long: one of each row at most."""
    for first, source in earlier:
        # What a message repeats is at the end of what led to it.
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
