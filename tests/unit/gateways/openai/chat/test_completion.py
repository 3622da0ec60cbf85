"""Chunks and whole answers from logs that no agent here writes: restarts, texts in any pieces, unknown
types.
"""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.gateways.openai.chat.completion import ChunkedChoice, WholeChoice
from portico.gateways.openai.errors import OpenAiError
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2


class Log:
    """A log that grows."""

    def __init__(self) -> None:
        self.events: list[pb.Event] = []
        self.respond(pb.RUN_STATUS_CREATED)
        self.respond(pb.RUN_STATUS_IN_PROGRESS)

    def add(self, **what: Any) -> None:
        self.events.append(pb.Event(sequence_number=len(self.events), **what))

    def respond(self, status: pb.RunStatus.ValueType, **more: Any) -> None:
        self.add(response=pb.Response(id="resp_1", status=status, **{"attempt": 1, **more}))

    def say(self, id: str, *parts: str, type: pb.MessageType.ValueType = pb.MESSAGE_TYPE_MESSAGE) -> None:
        self.add(message=pb.Message(id=id, type=type, status=pb.RUN_STATUS_IN_PROGRESS))
        for part in parts:
            status = pb.RUN_STATUS_IN_PROGRESS
            self.add(content=pb.Content(msg_id=id, delta=True, text=part, status=status))
        whole = pb.Content(msg_id=id, text="".join(parts), status=pb.RUN_STATUS_COMPLETED)
        self.add(content=whole)
        self.add(
            message=pb.Message(id=id, type=type, status=pb.RUN_STATUS_COMPLETED, content=[whole]),
        )

    def frames(self, size: int) -> list[query_pb2.StreamFrame]:
        starts = range(0, len(self.events), size)
        return [query_pb2.StreamFrame(events=self.events[start : start + size]) for start in starts]


def chunks(log: Log, size: int = 1) -> list[dict[str, Any]]:
    choice = ChunkedChoice("m", include_usage=False)
    pieces = [piece for frame in log.frames(size) for piece in choice.frames([frame])]
    assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") for piece in pieces)
    return [orjson.loads(piece[6:]) for piece in pieces]


def streamed(log: Log, size: int = 1) -> str:
    told = chunks(log, size)
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in told)


def whole(log: Log) -> dict[str, Any]:
    choice = WholeChoice()
    choice.take(log.frames(3))
    return choice.json("m")["choices"][0]["message"]  # type: ignore[no-any-return]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(st.lists(st.lists(texts, max_size=5), max_size=4), st.integers(1, 7))
def test_any_text_in_any_pieces_comes_out_equal(messages: list[list[str]], size: int) -> None:
    log = Log()
    for number, parts in enumerate(messages):
        log.say(f"msg_{number}", *parts)
    log.respond(pb.RUN_STATUS_COMPLETED)
    expected = "\n\n".join("".join(parts) for parts in messages if parts)
    assert streamed(log, size) == expected
    assert whole(log)["content"] == expected


def test_what_the_agent_does_itself_is_not_told() -> None:
    log = Log()
    silent = [
        pb.MESSAGE_TYPE_PLUGIN_CALL,
        pb.MESSAGE_TYPE_PLUGIN_CALL_OUTPUT,
        pb.MESSAGE_TYPE_COMPONENT_CALL,
        pb.MESSAGE_TYPE_MCP_CALL,
        pb.MESSAGE_TYPE_MCP_LIST_TOOLS,
        pb.MESSAGE_TYPE_MCP_APPROVAL_REQUEST,
        pb.MESSAGE_TYPE_HEARTBEAT,
    ]
    for type in silent:
        log.say(f"own_{type}", "x", type=type)
    log.say("msg_1", "said")
    log.respond(pb.RUN_STATUS_COMPLETED)
    assert streamed(log) == "said"
    assert whole(log)["content"] == "said"


def test_refusals_in_pieces() -> None:
    log = Log()
    log.add(message=pb.Message(id="a", type=pb.MESSAGE_TYPE_MESSAGE, status=pb.RUN_STATUS_IN_PROGRESS))
    for part in ("I ", "won't"):
        status = pb.RUN_STATUS_IN_PROGRESS
        log.add(content=pb.Content(msg_id="a", delta=True, refusal=part, status=status))
    log.add(content=pb.Content(msg_id="a", refusal="I won't", status=pb.RUN_STATUS_COMPLETED))
    log.respond(pb.RUN_STATUS_COMPLETED)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(log)]
    assert deltas[1:-1] == [{"refusal": "I "}, {"refusal": "won't"}]
    assert whole(log)["refusal"] == "I won't"


def test_a_rerun_before_anything_was_said() -> None:
    log = Log()
    log.respond(pb.RUN_STATUS_IN_PROGRESS, attempt=2)
    log.say("msg_1", "again")
    log.respond(pb.RUN_STATUS_COMPLETED, attempt=2)
    assert streamed(log) == "again"
    assert whole(log)["content"] == "again"


def test_a_rerun_after_something_was_said() -> None:
    """A whole answer contains the valid part only; a stream can't withdraw chunks, and ends with an error."""
    log = Log()
    log.say("msg_1", "cut o")
    log.respond(pb.RUN_STATUS_IN_PROGRESS, attempt=2)
    log.say("msg_2", "again")
    log.respond(pb.RUN_STATUS_COMPLETED, attempt=2)
    assert whole(log)["content"] == "again"
    *_, said, last = chunks(log)
    assert said["choices"][0]["delta"] == {"content": "cut o"}
    assert last["error"]["code"] == "run_restarted"


@pytest.mark.parametrize(
    ("status", "code", "expected", "http"),
    [
        (pb.RUN_STATUS_CANCELED, "", "run_canceled", 409),
        (pb.RUN_STATUS_REJECTED, "closed", "closed", 422),
        (pb.RUN_STATUS_FAILED, "deadline_exceeded", "deadline_exceeded", 504),
    ],
)
def test_ends_that_are_errors(status: pb.RunStatus.ValueType, code: str, expected: str, http: int) -> None:
    log = Log()
    log.respond(status, error=pb.Error(code=code, message="why"))
    assert chunks(log)[-1]["error"]["code"] == expected
    with pytest.raises(OpenAiError) as failed:
        whole(log)
    assert (failed.value.status, failed.value.code) == (http, expected)


def test_an_interrupted_run_is_cut_short() -> None:
    log = Log()
    log.say("msg_1", "half")
    log.respond(pb.RUN_STATUS_INCOMPLETE, error=pb.Error(code="interrupted", message="why"))
    assert chunks(log)[-1]["choices"][0]["finish_reason"] == "length"


def test_steering_changes_nothing() -> None:
    log = Log()
    log.say("msg_1", "a")
    log.respond(pb.RUN_STATUS_IN_PROGRESS, input=[pb.Message(role=pb.ROLE_USER)])
    log.say("msg_2", "b")
    log.respond(pb.RUN_STATUS_COMPLETED)
    assert streamed(log) == whole(log)["content"] == "a\n\nb"


def test_what_is_unknown_is_passed_over() -> None:
    log = Log()
    log.add()
    log.say("msg_1", "a", type=99)  # type: ignore[arg-type]
    log.respond(pb.RUN_STATUS_COMPLETED)
    assert streamed(log) == whole(log)["content"] == ""
