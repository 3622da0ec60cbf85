"""Protobuf encoding by hand: frames (`repeated Event events = 1`) are cut without decoding their events."""

_EVENTS_TAG = 0x0A  # field 1, length-delimited


def encode_varint(value: int) -> bytes:
    """Encode a non-negative integer as a protobuf base-128 varint."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def skip_events(frame: bytes, count: int) -> bytes:
    """Return the frame without its first `count` events."""
    if not count:
        return frame
    return frame[_offset(frame, 0, count) :]


def _offset(frame: bytes, position: int, count: int) -> int:
    for _ in range(count):
        assert frame[position] == _EVENTS_TAG, "the bytes are not a frame of events"
        position += 1
        length = shift = 0
        while True:
            byte = frame[position]
            position += 1
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        position += length
    return position
