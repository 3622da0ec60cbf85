"""The translator on logs written by hand: restarts, steering, interruptions, input requests."""

from typing import Any

import orjson
import pytest
from support.response_order import check_order

from portico.gateways.openai.responses.request.request_echo import RequestEcho
from portico.gateways.openai.responses.response_ids import own_call_id
from portico.gateways.openai.responses.stream.event_writer import NEVER
from portico.gateways.openai.responses.stream.translator import ResponseTranslator
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

RUN = "resp_" + "0" * 32
TEXT, TALK = pb.CONTENT_TYPE_TEXT, pb.MESSAGE_TYPE_MESSAGE
WORKS, DONE = pb.RUN_STATUS_IN_PROGRESS, pb.RUN_STATUS_COMPLETED


class Log:
    """A log written by hand."""

    def __init__(self) -> None:
        self.events: list[pb.Event] = []
        self.attempt = 1

    def response(self, status: pb.RunStatus.ValueType, **more: Any) -> "Log":
        event = self._next()
        event.response.CopyFrom(
            pb.Response(id=RUN, status=status, attempt=self.attempt, agent_name="a", **more)
        )
        event.response.created_time.seconds = 7
        return self

    def opened(self, id: str, type: pb.MessageType.ValueType = TALK) -> "Log":
        self._next().message.CopyFrom(pb.Message(id=id, type=type, status=WORKS))
        return self

    def delta(self, id: str, text: str, index: int = 0) -> "Log":
        self._next().content.CopyFrom(
            pb.Content(type=TEXT, status=WORKS, index=index, delta=True, msg_id=id, text=text)
        )
        return self

    def whole(self, id: str, text: str, index: int = 0) -> "Log":
        self._next().content.CopyFrom(pb.Content(type=TEXT, status=DONE, index=index, msg_id=id, text=text))
        return self

    def data(self, id: str, value: dict[str, Any], status: pb.RunStatus.ValueType = DONE) -> "Log":
        text = orjson.dumps(value).decode()
        self._next().content.CopyFrom(
            pb.Content(type=pb.CONTENT_TYPE_DATA, status=status, msg_id=id, data_json=text)
        )
        return self

    def closed(
        self, id: str, type: pb.MessageType.ValueType = TALK, status: pb.RunStatus.ValueType = DONE
    ) -> "Log":
        self._next().message.CopyFrom(pb.Message(id=id, type=type, status=status))
        return self

    def said(self, id: str, text: str) -> "Log":
        return self.opened(id).delta(id, text).whole(id, text).closed(id)

    def begun(self) -> "Log":
        return self.response(pb.RUN_STATUS_CREATED).response(WORKS)

    def _next(self) -> pb.Event:
        event = pb.Event(sequence_number=len(self.events))
        self.events.append(event)
        return event

    def told(self, *, size: int = 1, **options: Any) -> list[dict[str, Any]]:
        """Returns the events of one response, with the log in frames of this size."""
        translator = ResponseTranslator(RequestEcho(query_pb2.AgentRequest()), **options)
        frames: list[bytes] = []
        for start in range(0, len(self.events), size):
            frame = query_pb2.StreamFrame(events=self.events[start : start + size])
            frames += translator.add_frames([frame])
        told = [orjson.loads(frame.partition(b"\ndata: ")[2]) for frame in frames]
        if told and options.get("after", -1) == -1 and not options.get("following"):
            check_order(told)
        return told

    def object(self, **options: Any) -> dict[str, Any]:
        translator = ResponseTranslator(RequestEcho(query_pb2.AgentRequest()), after=NEVER, **options)
        assert translator.add_frames([query_pb2.StreamFrame(events=self.events)]) == []
        value = translator.json()
        assert value is not None
        return value


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def texts(response: dict[str, Any]) -> list[str]:
    return [part["text"] for item in response["output"] for part in item["content"]]


def test_the_order_of_a_text() -> None:
    log = (
        Log().begun().opened("m").delta("m", "a").delta("m", "b").whole("m", "ab").closed("m").response(DONE)
    )
    events = log.told()
    assert types(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert events[4] == {
        "type": "response.output_text.delta",
        "item_id": "m",
        "output_index": 0,
        "content_index": 0,
        "logprobs": [],
        "sequence_number": 4,
        "delta": "a",
    }
    assert events[-1]["response"] == log.object()
    for size in (2, 3, 100):
        assert log.told(size=size) == events
    assert log.told(after=4) == events[5:]


def test_a_run_that_waits_is_queued_first() -> None:
    log = Log().response(pb.RUN_STATUS_CREATED).response(pb.RUN_STATUS_QUEUED).response(WORKS).response(DONE)
    events = log.told()
    assert types(events) == ["created", "queued", "in_progress", "completed"]
    assert [event["response"]["status"] for event in events] == [
        "in_progress",
        "queued",
        "in_progress",
        "completed",
    ]


def test_a_run_that_is_cancelled_while_it_waits() -> None:
    log = Log().response(pb.RUN_STATUS_CREATED).response(pb.RUN_STATUS_CANCELED)
    events = log.told()
    assert types(events) == ["created", "incomplete"]
    assert events[-1]["response"]["status"] == "cancelled"


def test_a_rerun_voids_what_was_said() -> None:
    log = Log().begun().said("m1", "first").opened("m2").delta("m2", "hal")
    log.attempt = 2
    log.response(WORKS).said("m1", "again").response(DONE)
    events = log.told()
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [(item["id"], item["status"]) for item in done] == [
        ("m1", "completed"),
        ("m2", "incomplete"),
        ("m1~2", "completed"),
    ]
    assert done[1]["content"][0]["text"] == "hal"
    assert texts(events[-1]["response"]) == ["again"]
    assert events[-1]["response"]["output"] == [done[2]]


def test_a_call_that_is_repeated_in_a_rerun_has_another_call_id() -> None:
    kind = pb.MESSAGE_TYPE_FUNCTION_CALL
    call = {"call_id": "c", "name": "f", "arguments": "{}"}
    log = Log().begun().opened("m1", kind).data("m1", call).closed("m1", kind)
    log.attempt = 2
    log.response(WORKS).opened("m2", kind).data("m2", call).closed("m2", kind).response(DONE)
    (item,) = log.told()[-1]["response"]["output"]
    assert item["call_id"] != "c"
    assert own_call_id(item["call_id"]) == "c"


def test_a_steered_run_is_several_responses() -> None:
    heard = pb.Message(id="t", role=pb.ROLE_USER)
    first = pb.Usage(input_tokens=2, output_tokens=3, total_tokens=5)
    both = pb.Usage(input_tokens=3, output_tokens=4, total_tokens=7)
    log = Log().begun().said("m1", "one")
    log.response(WORKS, input=[heard], usage=first).said("m2", "two").response(DONE, usage=both)
    before, after = log.told(), log.told(number=2)
    assert before[-1]["type"] == "response.incomplete"
    assert before[-1]["response"]["incomplete_details"] == {"reason": "steered"}
    assert texts(before[-1]["response"]) == ["one"]
    assert types(after)[:2] == ["created", "in_progress"]
    assert after[0]["response"]["id"] == f"{RUN}_2"
    assert after[0]["response"]["previous_response_id"] == RUN
    assert texts(after[-1]["response"]) == ["two"]
    assert after[-1]["response"]["usage"]["total_tokens"] == 2
    assert log.told(following=True) == before + after
    assert log.object(number=2) == after[-1]["response"]
    assert not log.told(number=3)


def test_a_rerun_of_a_run_that_asked_is_silent_until_the_answer() -> None:
    ask = pb.InputRequest(id="input_1", prompt="Which?")
    log = Log().begun().said("m1", "hm").response(pb.RUN_STATUS_INPUT_REQUIRED, input_request=ask)
    log.attempt = 2
    log.response(WORKS).said("m2", "hm").response(pb.RUN_STATUS_INPUT_REQUIRED, input_request=ask)
    events = log.told()
    assert texts(events[-1]["response"]) == ["hm", "Which?"]
    log.response(WORKS, input=[pb.Message(id="t")]).said("m3", "so").response(DONE)
    assert log.told() == events
    assert texts(log.told(number=2)[-1]["response"]) == ["so"]
    # The response that begins after a certain event.
    assert log.told(beyond=12) == log.told(number=2)


def answered() -> Log:
    """A run that asked for input, was answered and continued, when the core crashed."""
    ask = pb.InputRequest(id="input_1", prompt="Which?")
    log = Log().begun().said("m1", "hm").response(pb.RUN_STATUS_INPUT_REQUIRED, input_request=ask)
    log.response(WORKS, input=[pb.Message(id="t")]).said("m2", "be")
    log.attempt = 2
    return log


def test_a_rerun_after_an_answer_repeats_nothing_of_the_response_before() -> None:
    log = answered().response(WORKS).said("m3", "hm").response(WORKS, repeated_answers=1)
    log.said("m4", "begin").response(DONE, repeated_answers=1)
    for size in (1, 3, 100):
        assert texts(log.told(number=2, size=size)[-1]["response"]) == ["begin"]
    assert texts(log.object()) == ["hm", "Which?"]
    assert not log.told(number=3)


def test_a_rerun_that_goes_another_way_loses_nothing() -> None:
    log = answered().response(WORKS).said("m3", "never mind").response(DONE)
    assert texts(log.told(number=2)[-1]["response"]) == ["never mind"]
    again = pb.InputRequest(id="input_2", prompt="What?")
    log = answered().response(pb.RUN_STATUS_QUEUED).response(WORKS).said("m3", "well")
    log.response(pb.RUN_STATUS_INPUT_REQUIRED, input_request=again)
    log.response(WORKS, input=[pb.Message(id="t2")]).said("m4", "so").response(DONE)
    assert texts(log.told(number=2)[-1]["response"]) == ["well", "What?"]
    assert texts(log.told(number=3)[-1]["response"]) == ["so"]


def test_a_paused_run_that_waits_for_its_turn_after_a_crash_begins_no_response() -> None:
    ask = pb.InputRequest(id="input_1", prompt="Which?")
    log = Log().begun().response(pb.RUN_STATUS_INPUT_REQUIRED, input_request=ask)
    log.attempt = 2
    log.response(pb.RUN_STATUS_QUEUED).response(WORKS)
    assert not log.told(number=2)


def test_what_is_open_at_the_end_is_closed() -> None:
    kind = pb.MESSAGE_TYPE_PLUGIN_CALL
    log = Log().begun().opened("m1", kind).data("m1", {"call_id": "c", "name": "f", "arguments": "{}"})
    log.closed("m1", kind).opened("m2").delta("m2", "hal")
    error = pb.Error(code="deadline_exceeded", message="too long")
    events = log.response(pb.RUN_STATUS_FAILED, error=error).told()
    assert [item["status"] for item in events[-1]["response"]["output"]] == ["incomplete", "incomplete"]
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "too long"}


def test_a_tool_that_failed() -> None:
    call, output = pb.MESSAGE_TYPE_MCP_CALL, pb.MESSAGE_TYPE_MCP_CALL_OUTPUT
    log = Log().begun().opened("m1", call)
    log.data("m1", {"call_id": "c", "name": "f", "arguments": "", "server_label": "s"}, WORKS)
    log.data("m1", {"call_id": "c", "name": "f", "arguments": "{}", "server_label": "s"}).closed("m1", call)
    log.opened("m2", output).data("m2", {"call_id": "c", "error": "no luck"}).closed("m2", output)
    events = log.response(DONE).told()
    (item,) = events[-1]["response"]["output"]
    assert item["status"] == "failed"
    assert item["error"] == {"type": "mcp_tool_execution_error", "content": "no luck"}
    assert "mcp_call.failed" in types(events)


def test_a_snapshot_in_the_middle() -> None:
    log = Log().begun().opened("m").delta("m", "so ").delta("m", "far")
    value = log.object()
    assert value["status"] == "in_progress"
    assert value["output"][0]["status"] == "in_progress"
    assert texts(value) == ["so far"]


def test_all_nullable_members_are_there() -> None:
    value = Log().begun().response(DONE).object()
    expected = """id object created_at completed_at status incomplete_details model previous_response_id
        instructions output error tools tool_choice truncation parallel_tool_calls text top_p presence_penalty
        frequency_penalty top_logprobs temperature reasoning usage max_output_tokens max_tool_calls store
        background service_tier metadata safety_identifier prompt_cache_key user
        conversation prompt moderation"""
    assert not set(expected.split()) - set(value)


def test_what_other_protocols_sent_is_not_taken_for_ours() -> None:
    request = query_pb2.AgentRequest(
        extra_json='{"user": {"id": 1}, "text": "x", "reasoning": 3, "conversation": "c", "service_tier": 4}',
        metadata_json='{"a": {"b": 1}}',
    )
    request.tools.add(name="f", parameters_json='{"type":"object"}')
    request.tools.add(
        name="s",
        type="mcp",
        raw_json='{"type":"mcp","server_label":"s","authorization":"secret","headers":{"x":"secret"}}',
    )
    fields = RequestEcho(request).fields
    assert fields["user"] is None
    assert fields["text"] == {"format": {"type": "text"}}
    assert fields["reasoning"] == {"effort": None, "summary": None}
    assert fields["conversation"] is None
    assert fields["service_tier"] == "default"
    assert fields["metadata"] == {"a": '{"b":1}'}
    assert fields["tools"] == [
        {
            "type": "function",
            "name": "f",
            "description": None,
            "parameters": {"type": "object"},
            "strict": None,
        },
        {"type": "mcp", "server_label": "s"},
    ]


@pytest.mark.parametrize(
    "kept",
    [
        3,
        {"tools": 3},
        {"tools": [3]},
        {"tools": [{"name": 3}]},
        {"tools": [{"type": []}]},
        {"parameters": 3},
        {"parameters": {"top_p": {}, "nonsense": 1}},
        {"extra": 3, "metadata": [], "tools": {}},
        {"extra": {"instructions": {}, "reasoning": 1, "tools": 2}, "metadata": {"a": []}},
    ],
    ids=str,
)
def test_what_others_say_in_the_place_of_an_answers_parameters_does_no_harm(kept: Any) -> None:
    answer = pb.Message(id="t", metadata_json=orjson.dumps({"openai": {"request": kept}}).decode())
    ask = pb.InputRequest(id="input_1", prompt="Which?")
    log = Log().begun().response(pb.RUN_STATUS_INPUT_REQUIRED, input_request=ask)
    value = log.response(WORKS, input=[answer]).said("m", "so").response(DONE).object(number=2)
    assert (value["instructions"], value["tools"], texts(value)) == (None, [], ["so"])
