"""A run's text is the final text of its messages."""

from portico.client.streams.text_collector import TextCollector
from portico.v1 import events_pb2


def text_of(*objects: events_pb2.Response | events_pb2.Message | events_pb2.Content) -> str:
    collector = TextCollector()
    for item in objects:
        name = item.DESCRIPTOR.name.lower()
        collector.take_in(events_pb2.Event(**{name: item}))  # type: ignore[arg-type]
    return collector.text


def delta(text: str, *, message: str = "m", index: int = 0) -> events_pb2.Content:
    return events_pb2.Content(msg_id=message, index=index, delta=True, text=text)


def test_deltas_add_up_and_snapshots_replace() -> None:
    assert text_of(delta("a"), delta("b")) == "ab"
    assert text_of(delta("a"), events_pb2.Content(msg_id="m", text="whole")) == "whole"
    assert text_of(delta("b", index=1), delta("a")) == "ab"


def test_messages_are_set_apart() -> None:
    assert text_of(delta("a"), delta("b", message="n")) == "a\nb"


def test_a_complete_message_has_the_last_word() -> None:
    whole = events_pb2.Message(id="m", content=[events_pb2.Content(text="whole")])
    assert text_of(delta("par"), whole) == "whole"
    assert text_of(whole) == "whole"


def test_only_what_is_said_counts() -> None:
    thought = events_pb2.Message(id="m", type=events_pb2.MESSAGE_TYPE_REASONING)
    assert text_of(thought, delta("hm")) == ""
    assert text_of(delta("hm"), thought) == ""
    assert text_of(events_pb2.Content(msg_id="m", data_json="{}")) == ""


def test_a_new_attempt_voids_what_was_said() -> None:
    again = events_pb2.Response(attempt=2)
    assert text_of(events_pb2.Response(attempt=1), delta("a"), again, delta("b")) == "b"
    ended = events_pb2.Response(attempt=2, status=events_pb2.RUN_STATUS_COMPLETED)
    assert text_of(delta("b"), ended) == "b", "the reader came in the middle of the second attempt"
