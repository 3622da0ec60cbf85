"""Pauses: a conversation is complete and in order after crashes at any point."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.engine import request

from portico.agent import AgentApp, AgentError, Context, Message, Role, Status, TextContent
from portico.core.convert.events import ProtoEncoder
from portico.core.errors import Draining, RunNotPaused
from portico.core.execution.execution import Execution
from portico.core.runs.run_engine import RunEngine
from portico.core.runs.scheduler import RunLimits
from portico.core.stores.ports.stores import Stores
from portico.v1 import events_pb2, query_pb2

Engines = Callable[..., Any]
TOLD = ["Book", "Where?", "place", "Rome", "When in Rome?", "time", "May", "Rome, May."]
ADA = query_pb2.AgentRequest(user_id="u", session_id="s")


def curious(on_restart: Any = None) -> AgentApp:
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
    launched = engine.admit_now(request("Book", request=ADA, background=True))
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
        while run_id in engine._live:
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


@pytest.mark.parametrize("on_restart", [None, "rerun"])
@pytest.mark.parametrize("crashes", [(0,), (1,), (0, 0), (1, 1), (0, 1, 1)], ids=str)
async def test_a_paused_run_outlives_restarts_and_repeats_nothing_in_the_session(
    engine_of: Engines, stores: Stores, crashes: tuple[int, ...], on_restart: Any
) -> None:
    engine = await engine_of(curious(on_restart))
    run_id = start(engine)
    for number, text in enumerate(("Rome", "May")):
        for _ in range(crashes.count(number)):
            await paused(engine, run_id)
            await engine.stop()
            engine = await engine_of(curious(on_restart))
            run = engine.live(run_id)
            assert run.ask.prompt == ("place", "time")[number]
        await answer(engine, run_id, text)
    await ended(engine, run_id)
    assert (await stores.runs.get(run_id)).status == Status.COMPLETED
    assert await session(stores) == TOLD


async def told(stores: Stores, run_id: str) -> list[Any]:
    """Attempt and number of repeated answers of each response event, and the texts."""
    events = [
        event
        for chunk in await stores.runs.read(run_id, -1, 10_000_000)
        for event in query_pb2.QueryResponse.FromString(chunk.data).events
    ]
    return [
        (event.response.attempt, event.response.repeated_answers)
        if event.HasField("response")
        else event.content.text
        for event in events
        if event.HasField("response") or (event.HasField("content") and not event.content.delta)
    ]


async def test_an_answer_after_a_restart_begins_an_attempt_that_gets_all_answers(
    engine_of: Engines, stores: Stores
) -> None:
    engine = await engine_of(curious())
    run_id = start(engine)
    await answer(engine, run_id, "Rome")
    await paused(engine, run_id)
    before = len(await told(stores, run_id))
    for _ in range(6):  # more restarts than attempts that crashes may cause
        await engine.stop()
        engine = await engine_of(curious())
    await paused(engine, run_id)
    assert len(await told(stores, run_id)) == before
    await answer(engine, run_id, "May")
    await ended(engine, run_id)
    assert (await told(stores, run_id))[before:] == [
        (1, 0),  # the answer
        (2, 0),
        "Where?",
        (2, 1),
        "When in Rome?",
        (2, 2),
        "Rome, May.",
        (2, 2),
    ]


async def test_an_attempt_that_crashes_behind_its_answers_leaves_the_session_as_it_was(
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
    await answer(engine, run_id, "May")
    await asyncio.wait_for(reached.wait(), 5)
    await engine.stop()
    engine = await engine_of(curious("rerun"))
    await ended(engine, run_id)
    assert await session(stores) == TOLD


@pytest.mark.parametrize("restarts", [1, 2])
async def test_a_run_that_ends_while_it_waits_keeps_what_it_has_said_and_repeats_nothing(
    engine_of: Engines, stores: Stores, restarts: int
) -> None:
    engine = await engine_of(curious())
    run_id = start(engine)
    if restarts == 2:
        await paused(engine, run_id)
        await engine.stop()
        engine = await engine_of(curious())
    await answer(engine, run_id, "Rome")
    await paused(engine, run_id)
    await engine.stop()
    engine = await engine_of(curious())
    await asyncio.gather(engine.cancel(run_id), engine.cancel(run_id))
    await ended(engine, run_id)
    [*_, last] = (await stores.runs.read(run_id, -1, 10_000_000))[-1:]
    end = query_pb2.QueryResponse.FromString(last.data).events[-1].response
    assert (await stores.runs.get(run_id)).status == Status.CANCELED
    assert [message.content[0].text for message in end.output] == ["Where?", "When in Rome?"]
    assert await session(stores) == TOLD[:6]


async def test_an_agent_without_reruns_fails_if_it_is_cut_off_behind_its_answer(
    engine_of: Engines, stores: Stores
) -> None:
    app = AgentApp("curious")

    @app.query
    async def query(context: Context) -> Any:
        yield context.input_required("place")
        yield "working"
        await asyncio.sleep(30)

    engine = await engine_of(app)
    run_id = start(engine)
    await answer(engine, run_id, "Rome")
    await asyncio.sleep(0.05)
    await engine.stop()
    await engine_of(app)
    assert (await stores.runs.get(run_id)).status == Status.FAILED


@pytest.mark.parametrize("way", ["yields", "awaits", "generates"])
async def test_a_pause_that_a_restart_would_end_is_refused_when_it_begins(
    engine_of: Engines, stores: Stores, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    app = AgentApp("curious", on_restart="fail")

    if way == "yields":

        @app.query
        async def query(context: Context) -> Any:
            try:
                yield context.input_required("place")
            except AgentError as error:
                yield error.code
                raise
    elif way == "awaits":

        @app.query
        async def wait(context: Context) -> Any:
            try:
                await context.input_required("place")
            except AgentError as error:
                yield error.code
                raise
    else:

        @app.query
        def generate(context: Context) -> Any:
            try:
                yield context.input_required("place")
            except AgentError as error:
                yield error.code
                raise

    engine = await engine_of(app)
    run_id = start(engine)
    await ended(engine, run_id)
    record = await stores.runs.get(run_id)
    end = events_pb2.Response.FromString(record.summary)
    assert (record.status, end.error.code) == (Status.FAILED, "pause_refused")
    assert "agent 'curious' has on_restart=\"fail\"" in end.error.message
    assert await told(stores, run_id) == [(1, 0), (1, 0), "pause_refused", (1, 0)]
    assert "cannot wait for an answer" in caplog.text


async def test_an_agent_that_is_stopped_at_its_question_says_nothing_more(
    engine_of: Engines, stores: Stores
) -> None:
    seen: list[bool] = []
    app = AgentApp("curious")

    @app.query
    async def query(context: Context) -> Any:
        try:
            yield context.input_required("place")
        finally:
            seen.append(context.restarting)
            yield "a last word"

    engine = await engine_of(app)
    run_id = start(engine)
    await paused(engine, run_id)
    before = await told(stores, run_id)
    await engine.stop()
    assert seen == [True]
    assert await told(stores, run_id) == before
    assert (await stores.runs.get(run_id)).status == Status.INPUT_REQUIRED


async def test_a_run_whose_agent_waits_no_longer_is_at_work(engine_of: Engines, stores: Stores) -> None:
    app = AgentApp("curious")

    @app.query
    async def query(context: Context) -> Any:
        try:
            await asyncio.wait_for(context.input_required("place"), 0.1)
        except TimeoutError:
            yield "nobody there"
        await asyncio.sleep(30)

    engine = await engine_of(app)
    run_id = start(engine)
    await paused(engine, run_id)
    run = engine.live(run_id)
    async with asyncio.timeout(5):
        while run.paused_at is not None:
            await asyncio.sleep(0.005)
    assert (run.status, run.ask) == (Status.IN_PROGRESS, None)
    with pytest.raises(RunNotPaused):
        await engine.resume(run_id, "", [Message(Role.USER, (TextContent("Rome"),))])
    await engine.stop()
    await engine_of(app)
    assert (await stores.runs.get(run_id)).status == Status.FAILED


async def test_runs_behind_a_paused_one_wait_on_after_a_restart(engine_of: Engines, stores: Stores) -> None:
    order: list[str] = []
    engine = await engine_of(curious(), runs=RunLimits(running=1))
    first = start(engine)
    await paused(engine, first)
    policy = query_pb2.SESSION_BUSY_POLICY_ENQUEUE
    second = engine.admit_now(request("again", request=ADA, background=True, if_session_busy=policy))
    third = engine.admit_now(request("other", background=True))  # of another session
    assert isinstance(second, Execution)
    assert isinstance(third, Execution)
    await second.run.wait_published(1)
    await third.run.wait_published(1)
    await engine.stop()
    engine = await engine_of(curious(), runs=RunLimits(running=1))
    await paused(engine, first)
    for waiting in (second, third):
        assert engine.live(waiting.run.run_id).status is Status.QUEUED
    for run_id in (first, third.run.run_id, second.run.run_id):
        for text in ("Rome", "May"):
            await answer(engine, run_id, text)
        await ended(engine, run_id)
        order.append((await stores.runs.get(run_id)).status)
    assert order == [Status.COMPLETED] * 3


async def test_an_answer_that_comes_while_the_core_drains_is_for_the_next_core(
    engine_of: Engines, stores: Stores
) -> None:
    engine = await engine_of(curious())
    run_id = start(engine)
    await answer(engine, run_id, "Rome")
    await paused(engine, run_id)
    await engine.stop()
    engine = await engine_of(curious())
    engine.draining = True
    await paused(engine, run_id)
    with pytest.raises(Draining):
        await engine.resume(run_id, "", [Message(Role.USER, (TextContent("May"),))])
    await engine.stop()
    engine = await engine_of(curious())
    await answer(engine, run_id, "May")
    await ended(engine, run_id)
    assert await session(stores) == TOLD
