import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from portico.core import wire
from portico.core.wire import encode_varint, skip_events
from portico.v1 import query_pb2

events = st.lists(st.text(max_size=300), min_size=1, max_size=20)


def frame(texts: list[str]) -> query_pb2.QueryResponse:
    response = query_pb2.QueryResponse()
    for number, text in enumerate(texts):
        event = response.events.add(sequence_number=number)
        event.content.text = text
    return response


@given(events, st.data())
def test_skip_leaves_the_rest_of_the_events(texts: list[str], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(texts)))
    whole = frame(texts)
    rest = query_pb2.QueryResponse.FromString(skip_events(whole.SerializeToString(), count))
    assert list(rest.events) == list(whole.events)[count:]


@given(events)
def test_frames_join_by_concatenation(texts: list[str]) -> None:
    whole = frame(texts)
    single = b"".join(query_pb2.QueryResponse(events=[event]).SerializeToString() for event in whole.events)
    assert single == whole.SerializeToString()


@given(st.integers(0, 2**63 - 1))
def test_varint_is_protobufs(value: int) -> None:
    frame = query_pb2.StreamAction(stream_id=value).SerializeToString()
    assert frame == (b"\x08" + encode_varint(value) if value else b"")


VARINT, LENGTH_DELIMITED = 0, 2  # wire types


@pytest.mark.parametrize(
    ("message", "field", "tag"),
    [
        (query_pb2.QueryResponse, "events", wire.EVENTS),
        (query_pb2.StreamFrame, "events", wire.EVENTS),
        (query_pb2.MultiplexResponse, "frames", wire.FRAMES),
        (query_pb2.StreamFrame, "stream_id", wire.STREAM_ID),
        (query_pb2.StreamFrame, "size_bytes", wire.SIZE_BYTES),
        (query_pb2.StreamFrame, "end", wire.END),
        (query_pb2.StreamFrame, "rate_limits", wire.RATE_LIMITS),
    ],
)
def test_tags_are_those_of_the_contract(message: type[Message], field: str, tag: bytes) -> None:
    described = message.DESCRIPTOR.fields_by_name[field]
    type = LENGTH_DELIMITED if described.type == FieldDescriptor.TYPE_MESSAGE else VARINT
    assert tag == bytes((described.number << 3 | type,))
