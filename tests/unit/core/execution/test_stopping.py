"""Stops: for every reason, an agent that ignores its cancellation is cancelled again."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.engine import Disk, read, request, text_of

from portico.agent import AgentApp, Context, Message, Role, Status, TextContent
from portico.core.errors import StoreUnavailable
from portico.core.execution import execution as module
from portico.core.execution.execution import Execution, StopReason
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.ports.stores import Stores

Engines = Callable[..., Any]


def agent(function: Callable[..., Any], **options: Any) -> AgentApp:
    app = AgentApp("test", **options)
    app.query(function)
    return app


def launch(engine: RunEngine, **more: Any) -> Execution:
    launched = engine.admit_now(request("go", **more))
    assert isinstance(launched, Execution)
    return launched


async def ended(execution: Execution) -> Status:
    async with asyncio.timeout(5):
        while not execution.run.is_terminal_durable:
            await asyncio.sleep(0.005)
    return execution.run.status


def deaf(times: int) -> Callable[[], Any]:
    async def swallow() -> Any:
        yield "x"
        left = times
        while True:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                left -= 1
                if left < 0:
                    raise

    return swallow


async def test_a_deadline_is_repeated_though_nobody_waits(
    engine_of: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CANCEL_RETRY_SECONDS", 0.02)
    engine = await engine_of(agent(deaf(3)))
    execution = launch(engine, background=True, timeout={"nanos": 20_000_000})
    assert await ended(execution) is Status.FAILED
    assert execution.run.error is not None
    assert execution.run.error.code == "deadline_exceeded"


async def test_a_reader_that_has_gone_is_repeated_and_then_no_more(
    engine_of: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CANCEL_RETRY_SECONDS", 0.02)
    engine = await engine_of(agent(deaf(3)), reader_grace_seconds=0.01)
    execution = launch(engine)
    engine.read(execution).close()
    assert await ended(execution) is Status.CANCELED
    timers = getattr(asyncio.get_running_loop(), "_scheduled", [])
    soon = [timer for timer in timers if not timer.cancelled() and timer.when() < time.monotonic() + 1]
    assert not [timer for timer in soon if "LoopWatch" not in str(timer)]  # LoopWatch's own timer


async def test_an_interrupted_agent_may_take_its_time_for_a_last_word(
    engine_of: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CANCEL_RETRY_SECONDS", 0.01)

    async def summing_up() -> Any:
        try:
            yield "x"
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
            yield " in short"

    engine = await engine_of(agent(summing_up))
    execution = launch(engine)
    await asyncio.sleep(0.02)
    await engine.interrupt(execution.run.run_id)
    assert await text_of(engine, execution) == "x in short"


async def test_a_cancel_follows_an_interruption_that_was_not_heard(
    engine_of: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CANCEL_RETRY_SECONDS", 0.02)
    engine = await engine_of(agent(deaf(3)))
    execution = launch(engine)
    await asyncio.sleep(0.02)
    execution.request_stop(StopReason.INTERRUPT)
    await asyncio.wait_for(engine.cancel(execution.run.run_id), 5)
    assert execution.run.status is Status.CANCELED


@pytest.mark.parametrize("stop", ["cancel", "interrupt"])
async def test_a_stop_does_not_wait_for_ever_for_a_store_that_refuses(
    engine_of: Engines, stores: Stores, stop: str
) -> None:
    disk = Disk(stores)
    engine = await engine_of(agent(deaf(0)), store_seconds=0.05)
    execution = launch(engine)
    await execution.run.wait_published(0)
    disk.refuses = True
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(getattr(engine, stop)(execution.run.run_id), 5)
    disk.refuses = False
    assert (await ended(execution)).terminal


async def test_an_answer_does_not_wait_for_ever_for_a_store_that_refuses(
    engine_of: Engines, stores: Stores
) -> None:
    async def asking(context: Context) -> Any:
        answer = yield context.input_required("?")
        yield answer[0].text

    disk = Disk(stores)
    engine = await engine_of(agent(asking), store_seconds=0.05)
    execution = launch(engine, background=True)
    await read(engine.read(execution))
    disk.refuses = True
    answer = [Message(Role.USER, (TextContent("yes"),), id="m")]
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(engine.resume(execution.run.run_id, "", answer), 5)
    disk.refuses = False
    assert await ended(execution) is Status.COMPLETED
    assert await text_of(engine, execution) == "yes"


async def test_a_start_fails_with_the_store_and_the_run_is_written_later(
    engine_of: Engines, stores: Stores
) -> None:
    async def short() -> Any:
        yield "x"

    disk = Disk(stores)
    engine = await engine_of(agent(short), store_seconds=0.05)
    disk.refuses = True
    execution = launch(engine, background=True)
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(engine.wait_durable(execution.run, 0), 5)
    disk.refuses = False
    assert await ended(execution) is Status.COMPLETED


async def test_a_store_that_is_only_slow_is_waited_for(engine_of: Engines, stores: Stores) -> None:
    disk = Disk(stores)
    engine = await engine_of(agent(deaf(0)), store_seconds=0.02)
    execution = launch(engine)
    await engine.wait_durable(execution.run, 0)
    disk.delay = 0.1
    await engine.cancel(execution.run.run_id)
    assert execution.run.is_terminal_durable


async def test_an_agent_hears_why_it_is_cancelled(engine_of: Engines) -> None:
    heard: list[object] = []

    async def waits(context: Context) -> Any:
        try:
            yield "x"
            await asyncio.sleep(30)
        finally:
            heard.append(context.cancel_metadata)

    engine = await engine_of(agent(waits))
    execution = launch(engine)
    await asyncio.sleep(0.02)
    id = execution.run.run_id
    await asyncio.gather(engine.cancel(id, '{"reason": "too slow"}'), engine.cancel(id, '{"reason": "late"}'))
    assert heard == [{"reason": "too slow"}]
    assert execution.run.snapshot().cancel_metadata_json == '{"reason": "too slow"}'
