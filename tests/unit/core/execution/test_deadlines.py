"""Deadlines: a run's time runs while its agent executes and stands still while a question is open."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from support.engine import request

from portico.agent import AgentApp, Context, Message, Role, Status, TextContent
from portico.core.convert.events import ProtoEncoder
from portico.core.execution.execution import Execution
from portico.core.hosts.local.local_host import LocalHost
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.ports.stores import Stores

Later = Callable[[float], None]
HOUR = {"seconds": 3600}


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Advances the time of loops and runs; a due timer fires in the loop's next iterations."""
    monotonic, ahead = time.monotonic, 0.0

    def move(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + ahead)
    return move


class Work:
    """Awaited by the agent."""

    def __init__(self) -> None:
        self.thought = asyncio.Event()
        self.done = asyncio.Event()
        self.begun = asyncio.Event()


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def engine(stores: Stores, work: Work) -> AsyncIterator[RunEngine]:
    app = AgentApp("busy")

    @app.query
    async def query(msgs: list[Message], context: Context) -> AsyncIterator[str]:
        if "think" in msgs[0].text:
            work.begun.set()
            await work.thought.wait()
            work.begun.clear()
        if "ask" in msgs[0].text:
            await context.input_required("Which?")
        work.begun.set()
        await work.done.wait()
        yield "done"

    engine = RunEngine(LocalHost([app]), stores, ProtoEncoder())
    await engine.start()
    yield engine
    await engine.stop()


def launch(engine: RunEngine, text: str) -> Execution:
    launched = engine.admit_now(request(text, background=True, timeout=HOUR))
    assert isinstance(launched, Execution)
    return launched


async def turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def asked(execution: Execution) -> None:
    while execution.run.paused_at is None:
        await asyncio.sleep(0)


async def answer(engine: RunEngine, execution: Execution) -> None:
    await engine.resume(execution.run.run_id, "", [Message(Role.USER, (TextContent("this"),))])


async def ended(execution: Execution) -> tuple[Status, str]:
    async with asyncio.timeout(30):
        await execution.wait_stopped()
    error = execution.run.error
    return execution.run.status, "" if error is None else error.code


async def test_an_agent_that_works_for_too_long_is_stopped(
    engine: RunEngine, work: Work, later: Later
) -> None:
    execution = launch(engine, "work")
    await work.begun.wait()
    later(3599)
    await turns()
    assert execution.run.status is Status.IN_PROGRESS
    later(2)
    assert await ended(execution) == (Status.FAILED, "deadline_exceeded")


async def test_a_question_may_stay_open_for_longer_than_the_run_may_take(
    engine: RunEngine, work: Work, later: Later
) -> None:
    execution = launch(engine, "ask")
    await asked(execution)
    later(24 * 3600)
    await turns()
    assert execution.run.status is Status.INPUT_REQUIRED
    await answer(engine, execution)
    await work.begun.wait()
    later(3599)
    await turns()
    work.done.set()
    assert await ended(execution) == (Status.COMPLETED, "")


async def test_what_an_agent_has_used_before_a_question_counts_after_it(
    engine: RunEngine, work: Work, later: Later
) -> None:
    execution = launch(engine, "think, then ask")
    await work.begun.wait()
    later(1800)
    work.thought.set()
    await asked(execution)
    later(7200)
    await answer(engine, execution)
    await work.begun.wait()
    later(1801)
    assert await ended(execution) == (Status.FAILED, "deadline_exceeded")
