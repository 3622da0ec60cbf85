"""Emitter: yielded items become the events of the agent protocol, in order, once each, within the limits."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.engine import request

from portico.agent import (
    Budget,
    Error,
    Message,
    MessageType,
    Role,
    Status,
    TextContent,
    data,
    image,
    new_message,
    reasoning,
    text,
    tool_call,
    tool_call_delta,
    usage,
)
from portico.agent.context import AgentError
from portico.core.budgets import BudgetTracker
from portico.core.convert.events import ProtoEncoder
from portico.core.execution import emitter as module
from portico.core.execution.emitter import Emitter
from portico.core.log.encoding import PendingInput
from portico.core.log.live_run import PENDING_EVENTS, LiveRun
from portico.core.stores.ports.stores import Chunk, NewMessage
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

WORDS = {
    pb.RUN_STATUS_CREATED: "created",
    pb.RUN_STATUS_QUEUED: "queued",
    pb.RUN_STATUS_IN_PROGRESS: "open",
    pb.RUN_STATUS_COMPLETED: "completed",
    pb.RUN_STATUS_INCOMPLETE: "incomplete",
    pb.RUN_STATUS_FAILED: "failed",
    pb.RUN_STATUS_INPUT_REQUIRED: "asks",
}


class Nobody:
    """A committer that commits nothing."""

    def add(self, run: LiveRun) -> None:
        pass


class Stage:
    """An emitter and the events that it appended."""

    def __init__(self, budget: Budget | None = None) -> None:
        start = request("hi", request={"user_id": "ada", "session_id": "s"})
        quotas = None if budget is None else BudgetTracker(budget)
        self.run = LiveRun("r", start, Nobody(), created_at=1.0, quotas=quotas)
        self.emitter = Emitter(self.run, ProtoEncoder())
        self.chunks: list[Chunk] = []
        self.session: list[NewMessage] = []

    def emit(self, *items: object) -> "Stage":
        for item in items:
            self.emitter.emit(item)
        return self

    def events(self) -> list[pb.Event]:
        """The new events."""
        chunks, _, messages = self.run.take_pending()
        self.chunks += chunks
        self.session += messages
        return [each for chunk in chunks for each in query_pb2.QueryResponse.FromString(chunk.data).events]

    def told(self) -> list[str]:
        """The new events, abbreviated to a word or two each."""
        return [_told(event) for event in self.events()]


def _told(event: pb.Event) -> str:
    match event.WhichOneof("object"):
        case "response":
            return f"response {WORDS[event.response.status]}"
        case "message":
            kind = pb.MessageType.Name(event.message.type).removeprefix("MESSAGE_TYPE_").lower()
            return f"{kind} {WORDS[event.message.status]}"
        case _:
            content = event.content
            what = content.text or content.data_json or content.image.image_url
            return f"{content.index} {what} {'delta' if content.delta else WORDS[content.status]}"


def output(event: pb.Event) -> list[tuple[str, str, str]]:
    """Type, status and text of each message in a response's output."""
    return [
        (
            pb.MessageType.Name(message.type).removeprefix("MESSAGE_TYPE_").lower(),
            WORDS[message.status],
            "|".join(content.text for content in message.content),
        )
        for message in event.response.output
    ]


def test_texts_are_deltas_of_one_content_until_something_else_comes() -> None:
    stage = Stage().emit("a", "", "b", None)
    assert stage.told() == ["message open", "0 a delta", "0 b delta"]
    stage.emit(reasoning("hm"))
    assert stage.told() == ["0 ab completed", "message completed", "reasoning open", "0 hm delta"]
    stage.emit(text("whole"), "c")
    assert stage.told() == [
        "0 hm completed",
        "reasoning completed",
        "message open",
        "0 whole delta",
        "0 whole completed",
        "1 c delta",
    ]
    stage.emit(new_message(), new_message(), "d")
    assert stage.told() == ["1 c completed", "message completed", "message open", "0 d delta"]
    stage.emitter.finish(Status.COMPLETED)
    *closed, end = stage.events()
    assert [_told(event) for event in closed] == ["0 d completed", "message completed"]
    assert output(end) == [
        ("message", "completed", "ab"),
        ("reasoning", "completed", "hm"),
        ("message", "completed", "whole|c"),
        ("message", "completed", "d"),
    ]


def test_contents_of_every_kind_are_announced_and_completed_in_their_places() -> None:
    stage = Stage().emit("a", data({"x": 1}), image("https://e.org/a.png"), text(""), "b")
    assert stage.told() == [
        "message open",
        "0 a delta",
        "0 a completed",
        '1 {"x":1} open',
        '1 {"x":1} completed',
        "2 https://e.org/a.png completed",
        "3  delta",
        "3  completed",
        "4 b delta",
    ]


def test_a_whole_message_is_one_of_its_own_with_its_id_and_metadata() -> None:
    stage = Stage().emit("a")
    stage.events()
    given = Message(
        Role.TOOL,
        (TextContent("x"), TextContent("y")),
        id="msg_given",
        metadata={"k": 1},
        usage=usage(input_tokens=2),
    )
    stage.emit(given)
    events = stage.events()
    assert [_told(event) for event in events] == [
        "0 a completed",
        "message completed",
        "message open",
        "0 x delta",
        "0 x completed",
        "1 y delta",
        "1 y completed",
        "message completed",
    ]
    opened, closed = events[2].message, events[-1].message
    for message in (opened, closed):
        assert (message.id, message.role) == ("msg_given", pb.ROLE_TOOL)
        assert json.loads(message.metadata_json) == {"k": 1}
    assert closed.usage.input_tokens == 2
    stage.emit(Message(Role.ASSISTANT, (TextContent("z"),)), "b")
    events = stage.events()
    assert events[0].message.id.startswith("msg_")
    assert [_told(event) for event in events][-2:] == ["message open", "0 b delta"]


def test_what_a_dict_says_is_yielded_and_a_kind_of_text_is_text() -> None:
    class Words(str):
        pass

    stage = Stage().emit(Words("a"), {"type": "text", "text": "b"})
    assert stage.told() == ["message open", "0 a delta", "0 a completed", "1 b delta", "1 b completed"]
    for wrong in (object(), data([1])):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            stage.emit(wrong)


def test_a_call_comes_in_pieces_and_is_complete_before_what_follows() -> None:
    pieces = [tool_call_delta("c1", "look", piece) for piece in ("", '{"a"', ": 1}")]
    stage = Stage().emit("a", *pieces, tool_call_delta("c2", "look", "{}"), "b")
    told = [event for event in stage.events() if event.WhichOneof("object") == "content"]
    calls = [
        (data["call_id"], data["arguments"], WORDS[event.content.status], event.content.index)
        for event in told
        if event.content.data_json
        for data in [json.loads(event.content.data_json)]
    ]
    assert calls == [
        ("c1", "", "open", 0),
        ("c1", '{"a"', "open", 0),
        ("c1", '{"a": 1}', "open", 0),
        ("c1", '{"a": 1}', "completed", 0),
        ("c2", "", "open", 0),
        ("c2", "{}", "open", 0),
        ("c2", "{}", "completed", 0),
    ]
    stage.emitter.finish(Status.COMPLETED)
    assert [kind for kind, _, _ in output(stage.events()[-1])] == [
        "message",
        "plugin_call",
        "plugin_call",
        "message",
    ]


def test_a_long_text_is_several_deltas_of_one_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELTA_CHARACTERS", 4)
    stage = Stage().emit("abcd", "efghi", "123456789")
    deltas = [event.content.text for event in stage.events()[1:]]
    assert deltas == ["abcd", "efgh", "i", "1234", "5678", "9"]


@pytest.mark.parametrize(
    ("items", "size"),
    [
        (["x" * 90], 290),
        (["é" * 45], 290),
        (["x" * 40, "x" * 50], 290),
        ([text("x" * 90)], 490),
        ([text("é" * 45)], 490),
        ([Message(Role.ASSISTANT, (TextContent("x" * 90),), metadata={"k": 1})], 490 + len('{"k":1}')),
        ([tool_call_delta("c", "n", "x" * 90)], None),
        ([tool_call_delta("c", "n", "é" * 45)], None),
        ([data({"x": "y" * 90})], None),
    ],
)
def test_output_is_bounded_by_what_it_takes(
    items: Sequence[object], size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if size is None:  # with its encoded form
        measured = Stage().emit(*items)
        measured.emitter.finish(Status.COMPLETED)
        size = measured.emitter._size
        assert size > 90 + 200
    monkeypatch.setattr(module, "MAX_OUTPUT_BYTES", size)
    fits = Stage().emit(*items)
    fits.emitter.finish(Status.COMPLETED)
    monkeypatch.setattr(module, "MAX_OUTPUT_BYTES", size - 1)
    with pytest.raises(AgentError) as caught:
        Stage().emit(*items, new_message())
    assert caught.value.code == "output_too_large"


def test_a_call_that_goes_on_and_on_is_bounded_before_it_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OUTPUT_BYTES", 1000)
    stage = Stage()
    with pytest.raises(AgentError):
        stage.emit(*(tool_call_delta("c", "n", "é" * 50) for _ in range(9)))
    assert stage.events()[-1].content.status == pb.RUN_STATUS_IN_PROGRESS


def test_usage_adds_up_for_the_run_and_for_the_open_message() -> None:
    stage = Stage().emit(
        usage(input_tokens=1), "a", usage(input_tokens=2, output_tokens=3), usage(output_tokens=4)
    )
    stage.emitter.finish(Status.COMPLETED)
    *_, closed, end = stage.events()
    assert (closed.message.usage.input_tokens, closed.message.usage.output_tokens) == (2, 7)
    assert (end.response.usage.input_tokens, end.response.usage.output_tokens) == (3, 7)


def test_a_call_beyond_the_budget_is_not_told() -> None:
    stage = Stage(Budget(tool_calls=1)).emit(tool_call("look", {}, call_id="c1"))
    with pytest.raises(asyncio.CancelledError):
        stage.emit("a", tool_call("look", {}, call_id="c2"))
    assert [told for told in stage.told() if told.endswith("open")].count("plugin_call open") == 1
    spending = Stage(Budget(tokens=5)).emit(usage(input_tokens=5))
    with pytest.raises(asyncio.CancelledError):
        spending.emit(usage(input_tokens=1))
    assert spending.run.usage is not None
    assert spending.run.usage.total == 6


def test_a_run_that_fails_keeps_what_it_said_as_far_as_it_came() -> None:
    stage = Stage().emit("a", new_message(), "b")
    error = Error("co\ud800de", "x" * 8191 + "\ud800" + "tail")
    stage.emitter.finish(Status.FAILED, error)
    end = stage.events()[-1]
    assert output(end) == [("message", "completed", "a"), ("message", "incomplete", "b")]
    assert end.response.error.code == "co?de"
    assert end.response.error.message == "x" * 8191 + "?"
    assert end.response.completed_time.seconds > 1
    assert stage.run.status is Status.FAILED


def test_the_session_gets_the_request_and_each_message_once() -> None:
    stage = Stage()
    stage.emitter.created()
    stage.emitter.started()
    stage.emit("a", Message(Role.ASSISTANT, (), type=MessageType.HEARTBEAT))
    stage.emitter.deliver_received_input(remembered=False)
    stage.emitter.paused(PendingInput("input_1", "Well?", "", "input"), remembered=False)
    assert stage.run.ask is not None
    stage.emitter.resumed([Message(Role.USER, (TextContent("yes"),), id="msg_answer")])
    assert stage.run.ask is None
    stage.emit("b")
    stage.emitter.steered([Message(Role.USER, (TextContent("more"),), id="msg_more")])
    stage.emit("c")
    stage.emitter.finish(Status.COMPLETED)
    events = stage.events()
    assert [message.text for message in stage.session] == ["hi", "a", "Well?", "yes", "b", "more", "c"]
    assert stage.session[2].message_id == "msg_1"
    responses = [event.response for event in events if event.HasField("response")]
    assert [(WORDS[each.status], [m.id for m in each.input]) for each in responses] == [
        ("created", []),
        ("open", []),
        ("asks", []),
        ("open", ["msg_answer"]),
        ("open", ["msg_more"]),
        ("completed", []),
    ]
    assert [len(each.output) for each in responses] == [0, 0, 0, 0, 0, 4]


def test_what_led_to_a_question_of_an_earlier_attempt_is_in_the_session_already() -> None:
    stage = Stage()
    stage.emitter.started()
    stage.emit("a")
    stage.emitter.deliver_received_input(remembered=True)
    stage.emitter.paused(PendingInput("input_1", "Well?", "", "input"), remembered=True)
    stage.emitter.repeated()
    stage.emit("b")
    stage.emitter.input_withdrawn()
    stage.emitter.finish(Status.COMPLETED)
    events = stage.events()
    assert [message.text for message in stage.session] == ["hi", "b"]
    repeated = [event.response.repeated_answers for event in events if event.HasField("response")]
    assert repeated == [0, 0, 1, 1, 1]
    assert [WORDS[event.response.status] for event in events if event.HasField("response")] == [
        "open",
        "asks",
        "open",
        "open",
        "completed",
    ]


def test_a_question_that_is_withdrawn_is_open_no_more() -> None:
    stage = Stage()
    stage.emitter.paused(PendingInput("input_1", "Well?", "", "input"), remembered=False)
    stage.emitter.input_withdrawn()
    asked, withdrawn = stage.events()
    assert asked.response.HasField("input_request")
    assert not withdrawn.response.HasField("input_request")
    stage.emitter.paused(PendingInput("input_2", "Well?", "", "input"), remembered=False)
    stage.emitter.finish(Status.CANCELED)
    assert not stage.events()[-1].response.HasField("input_request")


def test_the_time_of_a_status_is_that_of_its_event() -> None:
    stage = Stage()
    stage.emitter.created()
    assert stage.run.status_at == 1.0
    stage.emitter.queued()
    queued = stage.run.status_at
    assert queued > 1.0
    stage.emitter.started()
    assert stage.run.status_at >= queued
    stage.emitter.finish(Status.COMPLETED)
    assert stage.run.completed_at is not None
    assert stage.run.status_at == round(stage.run.completed_at, 6)


def test_what_can_not_be_encoded_is_dropped_with_all_that_came_before() -> None:
    stage = Stage().emit("a", usage(input_tokens=1), new_message(), "b")
    stage.emitter.discard()
    stage.events()
    stage.emitter.finish(Status.FAILED, Error("x", "y"))
    [end] = stage.events()
    assert output(end) == []
    assert not end.response.HasField("usage")
    assert stage.session == []
    # The next item begins a new message.
    stage = Stage().emit("a")
    stage.emitter.discard()
    stage.events()
    assert stage.emit("b").told() == ["message open", "0 b delta"]


def test_what_a_cut_off_run_had_said_is_kept_and_what_was_open_is_incomplete() -> None:
    first = Stage()
    first.emitter.started()
    first.emit("a", usage(input_tokens=1), new_message(), "b")
    first.emitter.steered([Message(Role.USER, (TextContent("more"),), id="msg_more")])
    first.emit(text("whole"), "cut o")
    first.events()
    second = Stage()
    second.emitter.recover(ProtoEncoder().recover(first.chunks))
    second.emitter.finish(Status.FAILED, Error("core_restarted", "x"))
    closed, end = second.events()
    assert output(end) == [
        ("message", "completed", "a"),
        ("message", "completed", "b"),
        ("message", "incomplete", "whole|cut o"),
    ]
    assert closed.message.status == pb.RUN_STATUS_INCOMPLETE
    assert end.response.usage.input_tokens == 1
    assert [message.text for message in second.session] == ["whole\ncut o"]
    whole = Stage()
    whole.emitter.recover(replace(ProtoEncoder().recover(first.chunks), open_message=None))
    whole.emitter.finish(Status.FAILED, Error("core_restarted", "x"))
    assert [_told(event) for event in whole.events()] == ["response failed"]


async def test_room_is_there_once_all_that_was_said_is_durable() -> None:
    stage = Stage().emit("a")
    assert not stage.emitter.needs_drain
    stage.emit(*["a"] * PENDING_EVENTS)
    assert stage.emitter.needs_drain
    waiting: Any = asyncio.create_task(stage.emitter.drain())
    await asyncio.sleep(0)
    assert not waiting.done()
    chunks, _, _ = stage.run.take_pending()
    stage.run.publish(chunks, Status.IN_PROGRESS, None, 1.0)
    await asyncio.wait_for(waiting, 30)
