"""Tool calls whose arguments arrive in pieces."""

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from support.engine import read, request

from portico.agent import AgentApp, tool_call_delta
from portico.v1 import events_pb2 as pb


async def said(engine_of: Callable[..., Any], *items: object) -> list[pb.Event]:
    app = AgentApp("calls")

    @app.query
    async def query() -> AsyncGenerator[object, None]:
        for item in items:
            yield item

    engine = await engine_of(app)
    return await read(engine.read(engine.admit_now(request("go"))))


def arguments(events: list[pb.Event], status: pb.RunStatus.ValueType) -> list[str]:
    return [
        json.loads(event.content.data_json)["arguments"]
        for event in events
        if event.WhichOneof("object") == "content" and event.content.status == status
    ]


async def test_pieces_of_one_call_are_one_message(engine_of: Callable[..., Any]) -> None:
    pieces = [tool_call_delta("c1", "look", piece) for piece in ("", '{"a"', ": 1}")]
    events = await said(engine_of, *pieces)
    assert arguments(events, pb.RUN_STATUS_IN_PROGRESS) == ["", '{"a"', '{"a": 1}']
    assert arguments(events, pb.RUN_STATUS_COMPLETED) == ['{"a": 1}']
    (message,) = events[-1].response.output
    assert message.type == pb.MESSAGE_TYPE_PLUGIN_CALL


async def test_another_call_completes_the_one_before(engine_of: Callable[..., Any]) -> None:
    events = await said(
        engine_of, tool_call_delta("c1", "look", "{}"), tool_call_delta("c2", "look", "{}"), "done"
    )
    calls = [json.loads(message.content[0].data_json or "{}") for message in events[-1].response.output[:2]]
    assert [call["call_id"] for call in calls] == ["c1", "c2"]
    assert events[-1].response.output[2].content[0].text == "done"


async def test_all_tellings_of_long_arguments_stay_in_proportion_to_them(
    engine_of: Callable[..., Any],
) -> None:
    pieces = [tool_call_delta("c1", "write", "word ") for _ in range(4000)]
    events = await said(engine_of, *pieces)
    told = arguments(events, pb.RUN_STATUS_IN_PROGRESS)
    assert sum(map(len, told)) < 10 * 20_000
    assert arguments(events, pb.RUN_STATUS_COMPLETED) == ["word " * 4000]
