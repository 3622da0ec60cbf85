"""Paused child runs and their parents survive a restart."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from support.engine import read, request

from portico.agent import AgentApp, Context, Message, Role, TextContent
from portico.core.errors import RunNotFound
from portico.core.execution.execution import Execution
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.ports.stores import RunFilter, Stores
from portico.v1 import events_pb2 as pb

Engines = Callable[..., Any]


def family(begun: list[str], **options: Any) -> AgentApp:
    """An agent whose input selects its behaviour: `child:` and a child run's input, `ask`, or both."""
    app = AgentApp("family", **options)

    @app.query
    async def query(msgs: Any, context: Context) -> Any:
        text = msgs[-1].text
        begun.append(text)
        yield f"{text}. "
        if text.startswith("both:"):
            child = await context.start_run(text.removeprefix("both:"))
            own = await context.input_required("mine?")
            result = await child.result()
            yield f"{own[0].text}, {result.status}: {result.text}"
        elif text.startswith("child:"):
            child = await context.start_run(text.removeprefix("child:"))
            result = await child.result()
            yield f"{result.status}: {result.text}"
        else:
            answer = await context.input_required("well?")
            yield answer[0].text

    return app


def launch(engine: RunEngine, text: str, **more: Any) -> str:
    launched = engine.admit_now(request(text, background=True, **more))
    assert isinstance(launched, Execution)
    return launched.run.run_id


async def asking(engine: RunEngine, prompt: str = "well?") -> str:
    """Finds the run with this open question."""
    async with asyncio.timeout(10):
        while True:
            for run_id, execution in engine._live.items():
                run = execution.run
                if run.ask is not None and run.ask.prompt == prompt and run.paused_at is not None:
                    return run_id
            await asyncio.sleep(0.005)


async def answer(engine: RunEngine, run_id: str, text: str) -> None:
    await engine.resume(run_id, "", [Message(Role.USER, (TextContent(text),))])


async def end(engine: RunEngine, run_id: str) -> pb.Response:
    async with asyncio.timeout(10):
        while True:
            with suppress(RunNotFound):  # the run is not in the log yet
                events = await read(await engine.watch(run_id, -1))
                if events[-1].response.HasField("completed_time"):
                    return events[-1].response
            await asyncio.sleep(0.01)


def said(response: pb.Response) -> str:
    return "".join(content.text for message in response.output for content in message.content)


async def count(stores: Stores) -> int:
    return await stores.runs.count(RunFilter())


@pytest.mark.parametrize("depth", [1, 2])
async def test_a_run_waits_with_its_child_and_gets_its_result(
    engine_of: Engines, stores: Stores, depth: int
) -> None:
    begun: list[str] = []
    engine = await engine_of(family(begun))
    run_id = launch(engine, "child:" * depth + "ask", budget=pb.Budget(child_runs=depth))
    child = await asking(engine)
    for _ in range(6):
        await engine.stop()
        engine = await engine_of(family(begun))
        assert await asking(engine) == child
    assert len(begun) == depth + 1
    await answer(engine, child, "Rome")
    ended = await end(engine, run_id)
    assert said(ended).endswith("completed: ask. Rome")
    assert (ended.attempt, ended.used.child_runs) == (2, depth)
    assert len(begun) == 2 * (depth + 1)
    assert await count(stores) == depth + 1


@pytest.mark.parametrize("first", ["child", "parent"])
async def test_a_paused_run_finds_its_paused_child_again(
    engine_of: Engines, stores: Stores, first: str
) -> None:
    engine = await engine_of(family([]))
    run_id = launch(engine, "both:ask")
    child, parent = await asking(engine), await asking(engine, "mine?")
    await engine.stop()
    engine = await engine_of(family([]))
    assert (await asking(engine), await asking(engine, "mine?")) == (child, parent)
    for whose in (first, "parent" if first == "child" else "child"):
        await answer(engine, child if whose == "child" else parent, f"to {whose}")
        await asyncio.sleep(0.05)
    assert said(await end(engine, run_id)) == "both:ask. to parent, completed: ask. to child"
    assert await count(stores) == 2


async def test_a_run_hears_that_its_child_was_cancelled(engine_of: Engines, stores: Stores) -> None:
    engine = await engine_of(family([]))
    run_id = launch(engine, "child:ask")
    child = await asking(engine)
    await engine.stop()
    engine = await engine_of(family([]))
    await engine.cancel(await asking(engine))
    # The next attempt gets the result of the ended child run, which is not started again.
    ended = await end(engine, run_id)
    assert said(ended) == "child:ask. canceled: ask. "
    assert (await end(engine, child)).status == pb.RUN_STATUS_CANCELED


async def test_a_child_that_waits_ends_with_its_parent(engine_of: Engines, stores: Stores) -> None:
    engine = await engine_of(family([]))
    run_id = launch(engine, "child:child:ask")
    child = await asking(engine)
    await engine.stop()
    engine = await engine_of(family([]))
    await asking(engine)
    await engine.cancel(run_id)
    assert said(await end(engine, run_id)) == "child:child:ask. "
    ended = await end(engine, child)
    assert (ended.status, ended.error.code) == (pb.RUN_STATUS_CANCELED, "parent_ended")
    assert said(ended) == "ask. "


async def test_a_child_can_not_pause_below_a_run_that_is_never_executed_again(engine_of: Engines) -> None:
    engine = await engine_of(family([], on_restart="fail"))
    ended = await end(engine, launch(engine, "child:ask"))
    assert said(ended) == "child:ask. failed: ask. "
