"""Ended runs: the memory of a run is freed with the last reference, without the garbage collector.

The collector scans all runs at once and stops all agents meanwhile.
"""

import asyncio
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.engine import read, request

from portico.agent import AgentApp, Context, Message, Role, TextContent, usage
from portico.core.execution.execution import Execution
from portico.core.runs.run_engine import RunEngine
from portico.v1 import events_pb2 as pb

Engines = Callable[..., Any]

app = AgentApp("test")


@app.query
async def query(msgs: list[Message], context: Context) -> Any:
    match msgs[-1].text:
        case "fail":
            raise ValueError("no")
        case "reject":
            yield context.reject("no")
        case "ask":
            answer = yield context.input_required("Sure?")
            yield answer[-1].text
        case "wait":
            yield "begun"
            await asyncio.sleep(60)
        case "child":
            child = await context.start_run("tell")
            yield (await child.result()).output[-1].text
        case _:
            yield "said"
            yield usage(input_tokens=1, output_tokens=1)


async def cancel(engine: RunEngine, run_id: str) -> None:
    await engine.cancel(run_id)


async def answer(engine: RunEngine, run_id: str) -> None:
    while not engine.execution(run_id).paused:  # type: ignore[union-attr]
        await asyncio.sleep(0.005)
    await engine.resume(run_id, "", (Message(Role.USER, (TextContent("yes"),)),))


async def run(engine: RunEngine, text: str, meanwhile: Callable[..., Any] | None = None, **more: Any) -> Any:
    """Executes one run to its end; returns weak references to its parts."""
    execution = engine.admit_now(request(text, background=True, **more))
    assert isinstance(execution, Execution)
    if meanwhile is not None:
        await asyncio.sleep(0.05)
        await meanwhile(engine, execution.run.run_id)
    events = await asyncio.wait_for(read(engine.read(execution)), 10)
    assert events[-1].response.HasField("completed_time")
    return weakref.WeakSet((execution, execution.run, execution.emitter, execution.readers))


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("budget", [None, pb.Budget(tokens=100, child_runs=3)], ids=["any", "budget"])
@pytest.mark.parametrize(
    ("text", "meanwhile"),
    [("tell", None), ("fail", None), ("reject", None), ("child", None), ("wait", cancel), ("ask", answer)],
)
async def test_it_leaves_nothing_to_the_garbage_collector(
    engine_of: Engines,
    text: str,
    meanwhile: Callable[..., Any] | None,
    budget: pb.Budget | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, logger="portico")  # captured records hold tracebacks
    engine = await engine_of(app)
    left = await run(engine, text, meanwhile, budget=budget)
    await run(engine, "tell")  # the last write is referenced until the next one
    assert not list(left)
