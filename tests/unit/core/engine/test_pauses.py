"""Pauses: a conversation reads as it was held, whatever crashed in between."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.engine import request

from portico.agent import AgentApp, Context, Message, Role, Status, TextContent
from portico.core.convert.events import ProtoEncoder
from portico.core.engine.execution import Execution
from portico.core.engine.runs import RunEngine
from portico.core.stores.base import Stores
from portico.v1 import query_pb2

Engines = Callable[..., Any]
TOLD = ["Book", "Where?", "place", "Rome", "When in Rome?", "time", "May", "Rome, May."]
ADA = query_pb2.AgentRequest(user_id="u", session_id="s")


def curious(on_restart: Any = "fail") -> AgentApp:
    app = AgentApp("curious", on_restart=on_restart)

    @app.query
    async def query(context: Context) -> Any:
        yield "Where?"
        where = yield context.input_required("place")
        yield f"When in {where[0].text}?"
        when = yield context.input_required("time")
        yield f"{where[0].text}, {when[0].text}."

    return app


def start(engine: RunEngine) -> str:
    launched = engine.launch_now(request("Book", request=ADA, background=True))
    assert isinstance(launched, Execution)
    return launched.run.run_id


async def paused(engine: RunEngine, run_id: str) -> None:
    async with asyncio.timeout(5):
        while (run := engine.live(run_id)) is None or run.paused_at is None:
            await asyncio.sleep(0.005)


async def answer(engine: RunEngine, run_id: str, text: str) -> None:
    await paused(engine, run_id)
    await engine.resume(run_id, "", [Message(Role.USER, (TextContent(text),), id=f"msg_{text}")])


async def ended(engine: RunEngine, run_id: str) -> None:
    async with asyncio.timeout(5):
        while engine.live(run_id) is not None:
            await asyncio.sleep(0.005)


async def session(stores: Stores) -> list[str]:
    rows = await stores.sessions.messages("u", "s", None, 100, descending=False)
    return [ProtoEncoder().load_message(row.payload).text for row in rows]


async def test_a_question_is_in_the_session_before_its_answer(engine_of: Engines, stores: Stores) -> None:
    engine = await engine_of(curious())
    run_id = start(engine)
    await paused(engine, run_id)
    assert await session(stores) == TOLD[:3]
    await answer(engine, run_id, "Rome")
    await answer(engine, run_id, "May")
    await ended(engine, run_id)
    assert await session(stores) == TOLD


@pytest.mark.parametrize("crashes", [(0,), (1,), (0, 0), (1, 1), (0, 1, 1)], ids=str)
async def test_a_rerun_repeats_nothing_in_the_session(
    engine_of: Engines, stores: Stores, crashes: tuple[int, ...]
) -> None:
    engine = await engine_of(curious("rerun"))
    run_id = start(engine)
    for number, text in enumerate(("Rome", "May")):
        for _ in range(crashes.count(number)):
            await paused(engine, run_id)
            await engine.stop()
            engine = await engine_of(curious("rerun"))
        await answer(engine, run_id, text)
    await ended(engine, run_id)
    assert await session(stores) == TOLD


async def test_a_rerun_says_when_it_is_given_its_answers_again(engine_of: Engines, stores: Stores) -> None:
    engine = await engine_of(curious("rerun"))
    run_id = start(engine)
    await answer(engine, run_id, "Rome")
    await paused(engine, run_id)
    await engine.stop()
    engine = await engine_of(curious("rerun"))
    await answer(engine, run_id, "May")
    await ended(engine, run_id)
    events = [
        event
        for chunk in await stores.runs.read(run_id, -1, 10_000_000)
        for event in query_pb2.QueryResponse.FromString(chunk.data).events
    ]
    told = [
        (event.response.attempt, event.response.repeated_answers)
        if event.HasField("response")
        else event.content.text
        for event in events
        if event.HasField("response") or (event.HasField("content") and not event.content.delta)
    ]
    assert told[told.index((2, 0)) :] == [
        (2, 0),
        "Where?",
        (2, 1),
        "When in Rome?",
        (2, 1),  # the question that was open
        (2, 1),  # its answer
        "Rome, May.",
        (2, 1),
    ]


async def test_an_attempt_that_crashes_before_its_question_leaves_the_session_as_it_was(
    engine_of: Engines, stores: Stores
) -> None:
    engine = await engine_of(curious("rerun"))
    run_id = start(engine)
    await answer(engine, run_id, "Rome")
    await paused(engine, run_id)
    await engine.stop()

    app = AgentApp("curious", on_restart="rerun")
    reached = asyncio.Event()

    @app.query
    async def stuck(context: Context) -> Any:
        yield "Where?"
        yield context.input_required("place")
        reached.set()
        await asyncio.sleep(30)

    engine = await engine_of(app)
    await asyncio.wait_for(reached.wait(), 5)
    await engine.stop()
    engine = await engine_of(curious("rerun"))
    await answer(engine, run_id, "May")
    await ended(engine, run_id)
    assert await session(stores) == TOLD


async def test_a_run_that_fails_after_a_crash_repeats_nothing_in_the_session(
    engine_of: Engines, stores: Stores
) -> None:
    engine = await engine_of(curious())
    run_id = start(engine)
    await answer(engine, run_id, "Rome")
    await paused(engine, run_id)
    await engine.stop()
    await engine_of(curious())
    assert (await stores.runs.get(run_id)).status == Status.FAILED
    assert await session(stores) == TOLD[:6]
