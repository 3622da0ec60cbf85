"""Protobuf encoding by hand, where decoding and encoding a message again would cost too much.

Frames of events are cut and joined without decoding their events. A tag is a field's number and wire type; a
test compares each with the contract.
"""

EVENTS = b"\x0a"  # QueryResponse.events and StreamFrame.events
FRAMES = b"\x0a"  # MultiplexResponse.frames
STREAM_ID = b"\x10"  # StreamFrame.stream_id
SIZE_BYTES = b"\x18"  # StreamFrame.size_bytes
END = b"\x22"  # StreamFrame.end
RATE_LIMITS = b"\x2a"  # StreamFrame.rate_limits


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


def length_delimited(tag: bytes, content: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the parts of a field that holds a message, a string or bytes."""
    return tag, encode_varint(len(content)), content


def skip_events(frame: bytes, count: int) -> bytes:
    """Return the frame without its first `count` events."""
    if not count:
        return frame
    return frame[_offset(frame, 0, count) :]


def _offset(frame: bytes, position: int, count: int) -> int:
    for _ in range(count):
        assert frame[position] == EVENTS[0], "the bytes are not a frame of events"
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
