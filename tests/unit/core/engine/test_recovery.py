"""Recovery at start: an attempt is an execution that has begun, and none begins uncounted."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.engine import Disk, request

from portico.agent import AgentApp, Context, Status
from portico.core.engine.execution import Execution
from portico.core.engine.recovery import MAX_ATTEMPTS
from portico.core.engine.runs import RunEngine
from portico.core.stores.base import Commit, Stores
from portico.v1 import query_pb2

Engines = Callable[..., Any]
SESSION = query_pb2.AgentRequest(user_id="u", session_id="s")


def agent(attempts: list[tuple[str, int]]) -> AgentApp:
    """Notes each execution, and does not end by itself."""
    app = AgentApp("test", on_restart="rerun")

    @app.query
    async def query(msgs: Any, context: Context) -> Any:
        attempts.append((msgs[-1].text, context.attempt))
        yield "x"
        await asyncio.sleep(30)

    return app


def launch(engine: RunEngine, text: str) -> Execution:
    policy = query_pb2.SESSION_BUSY_POLICY_ENQUEUE
    launched = engine.launch_now(request(text, request=SESSION, background=True, if_session_busy=policy))
    assert isinstance(launched, Execution)
    return launched


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("status", ["created", "queued"])
async def test_an_attempt_that_never_began_is_not_counted(
    engine_of: Engines, stores: Stores, status: str
) -> None:
    attempts: list[tuple[str, int]] = []
    engine = await engine_of(agent(attempts))
    run = launch(engine, "go").run
    await run.wait_published(1)
    await engine.stop()
    # As a process leaves it that died while the last attempt had yet to begin.
    record = replace(await stores.runs.get(run.run_id), status=status, attempt=MAX_ATTEMPTS)
    await stores.runs.commit(Commit([record]))
    engine = await engine_of(agent(attempts))
    await until(lambda: len(attempts) == 2)
    assert attempts[1] == ("go", MAX_ATTEMPTS)
    await engine.stop()
    await engine_of(agent(attempts))
    assert (await stores.runs.get(run.run_id)).status == Status.FAILED


async def test_a_queued_run_waits_through_any_number_of_crashes(engine_of: Engines, stores: Stores) -> None:
    attempts: list[tuple[str, int]] = []
    engine = await engine_of(agent(attempts))
    first, second = launch(engine, "first").run.run_id, launch(engine, "second").run.run_id
    for number in range(1, MAX_ATTEMPTS + 1):
        await until(lambda number=number: len(attempts) == number)  # type: ignore[misc]
        await engine.live(second).wait_published(1)
        await engine.stop()
        engine = await engine_of(agent(attempts))
    assert (await stores.runs.get(first)).status == Status.FAILED
    await until(lambda: attempts[-1][0] == "second")
    assert attempts == [*(("first", number) for number in range(1, MAX_ATTEMPTS + 1)), ("second", 1)]


async def test_an_attempt_is_durable_before_the_agent_can_bring_the_core_down(
    engine_of: Engines, stores: Stores
) -> None:
    attempts: list[tuple[str, int]] = []
    disk = Disk(stores)
    engine = await engine_of(agent(attempts))
    run = launch(engine, "go").run
    await run.wait_published(1)
    await engine.stop()
    disk.refuses = True
    engine = await engine_of(agent(attempts))
    await asyncio.sleep(0.05)
    assert attempts == [("go", 1)]
    disk.refuses = False
    await until(lambda: len(attempts) == 2)
    assert attempts[1] == ("go", 2)
    assert (await stores.runs.get(run.run_id)).attempt == 2
