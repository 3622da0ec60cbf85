"""Acknowledgements: no answer, list, repeat or refusal names anything that a crash would lose."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.engine import Disk, read, request, text_of

from portico.agent import AgentApp, Context, Message, Role, Status, TextContent
from portico.core.errors import (
    IdempotencyConflict,
    LimitExceeded,
    RunActive,
    RunNotFound,
    RunNotPaused,
    RunTerminal,
    SessionBusy,
    StoreUnavailable,
)
from portico.core.execution.execution import Execution
from portico.core.execution.received_input import STEERED_BYTES
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.ports.stores import Stores
from portico.v1 import query_pb2

Engines = Callable[..., Any]

app = AgentApp("test")
gate = threading.Event()
learnt: list[object] = []


@app.query
async def query(msgs: list[Message], context: Context) -> Any:
    match msgs[-1].text:
        case "ask":
            answer = yield context.input_required("Sure?")
            yield answer[-1].text
        case "wait":
            yield "begun"
            await asyncio.sleep(60)
        case "listen":
            answer = yield context.input_required("Go on?")
            yield ",".join(message.text for message in [*await context.new_input(), *answer])
        case "parent":
            while not gate.is_set():
                await asyncio.sleep(0.005)
            child = await context.start_run("wait")
            learnt.append(child.run_id)
            await child.cancel()
            learnt.append("cancelled")
        case _:
            yield "said"


def launch(engine: RunEngine, text: str, **more: Any) -> Execution:
    launched = engine.admit_now(request(text, background=True, **more))
    assert isinstance(launched, Execution)
    return launched


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.005)


async def repaired(engine: RunEngine, disk: Disk) -> None:
    """Lets the disk accept writes again; returns when the committer has noticed."""
    disk.refuses = False
    await until(lambda: engine._committer.failure is None)


def word(text: str) -> list[Message]:
    return [Message(Role.USER, (TextContent(text),), id="m")]


@pytest.mark.parametrize("key", ["order-1", "auto:1"])
async def test_a_repeat_waits_until_the_first_run_is_durable(
    engine_of: Engines, stores: Stores, key: str
) -> None:
    disk = Disk(stores)
    engine = await engine_of(app, store_seconds=0.1)
    first = launch(engine, "say", idempotency_key=key)
    disk.refuses = True
    again = request("say", background=True, idempotency_key=key)
    await until(lambda: first.run.status is Status.COMPLETED)
    assert engine.needs_store(again)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await engine.admit(again)
    await repaired(engine, disk)
    assert await engine.admit(again) == first.run.run_id
    assert (await stores.runs.get(first.run.run_id)).last_sequence_number >= 0


async def test_a_run_that_is_not_durable_is_not_there(engine_of: Engines, stores: Stores) -> None:
    disk = Disk(stores)
    engine = await engine_of(app)
    disk.refuses = True
    run_id = launch(engine, "wait").run.run_id
    await asyncio.sleep(0.05)
    assert engine.execution(run_id) is None
    assert engine.live(run_id) is None
    for call in (
        engine.watch(run_id, -1),
        engine.cancel(run_id),
        engine.interrupt(run_id),
        engine.resume(run_id, "", word("yes")),
        engine.steer(run_id, word("yes")),
        engine.running_parent(run_id),
        engine.delete(run_id),
        engine.is_ephemeral(run_id),
    ):
        with pytest.raises(RunNotFound):
            await call
    disk.refuses = False
    await until(lambda: engine.execution(run_id) is not None)
    with pytest.raises(RunActive):
        await engine.delete(run_id)


async def test_a_refusal_names_another_run_only_once_that_is_durable(
    engine_of: Engines, stores: Stores
) -> None:
    disk = Disk(stores)
    engine = await engine_of(app, store_seconds=0.1)
    place = {"user_id": "ada", "session_id": "s"}
    launch(engine, "wait", idempotency_key="k", request=place)
    disk.refuses = True
    other = request("another thing", idempotency_key="k", request=place)
    busy = request("say", request=place, if_session_busy=query_pb2.SESSION_BUSY_POLICY_REJECT)
    for refused in (other, busy):
        assert engine.needs_store(refused)
        with pytest.raises(StoreUnavailable):
            await engine.admit(refused)
    await repaired(engine, disk)
    with pytest.raises(IdempotencyConflict):
        await engine.admit(other)
    with pytest.raises(SessionBusy):
        await engine.admit(busy)
    assert not engine.needs_store(busy)


async def test_a_refusal_by_a_runs_state_waits_until_that_state_is_durable(
    engine_of: Engines, stores: Stores
) -> None:
    disk = Disk(stores)
    engine = await engine_of(app, store_seconds=0.1)
    asking = launch(engine, "ask")
    run_id = asking.run.run_id
    await until(lambda: asking.run.paused_at is not None)
    disk.refuses = True
    with pytest.raises(StoreUnavailable):
        await engine.resume(run_id, "", word("yes"))
    await until(lambda: asking.run.status.terminal)
    # After a crash the question would still be open.
    with pytest.raises(StoreUnavailable):
        await engine.resume(run_id, "", word("yes"))
    with pytest.raises(StoreUnavailable):
        await engine.steer(run_id, word("more"))
    with pytest.raises(StoreUnavailable):
        await engine.cancel(run_id)
    with pytest.raises(StoreUnavailable):
        await engine.admit(request("say", parent_run_id=run_id))
    with pytest.raises(RunActive):
        await engine.delete(run_id)
    assert asking.run.record is not None
    assert asking.run.record.status == Status.INPUT_REQUIRED
    await repaired(engine, disk)
    with pytest.raises((RunNotPaused, RunTerminal)):
        await engine.resume(run_id, "", word("yes"))
    await until(lambda: asking.run.is_terminal_durable)
    assert (await stores.runs.get(run_id)).status == Status.COMPLETED


async def test_an_agent_learns_of_its_child_run_and_its_end_once_they_are_durable(
    engine_of: Engines, stores: Stores
) -> None:
    disk = Disk(stores)
    engine = await engine_of(app)
    learnt.clear()
    gate.clear()
    parent = launch(engine, "parent")
    await engine.wait_durable(parent.run, 0)
    disk.refuses = True
    gate.set()
    await until(lambda: len(engine._live) == 2)
    child = next(each for each in engine._live.values() if each is not parent)
    await asyncio.sleep(0.1)
    assert learnt == []
    disk.refuses = False
    await until(lambda: bool(learnt))
    assert await stores.runs.last(child.run.run_id) is not None
    await read(engine.read(parent))
    assert learnt == [child.run.run_id, "cancelled"]


async def test_no_run_executes_in_a_session_once_the_end_of_the_last_is_durable(
    engine_of: Engines, stores: Stores
) -> None:
    disk = Disk(stores)
    engine = await engine_of(app, store_seconds=0.1)
    one = launch(engine, "say")
    disk.refuses = True
    await until(lambda: one.run.status.terminal)
    with pytest.raises(StoreUnavailable):
        await engine.interrupt_session(*one.run.session)
    disk.refuses = False
    await until(lambda: one.run.is_terminal_durable)
    assert await engine.interrupt_session(*one.run.session) == []


async def test_whoever_stops_all_runs_stops_those_that_are_not_durable_yet(
    engine_of: Engines, stores: Stores
) -> None:
    disk = Disk(stores)
    engine = await engine_of(app)
    disk.refuses = True
    one = launch(engine, "wait")
    owner, session_id = one.run.session
    stopping = asyncio.create_task(engine.interrupt_session(owner, session_id))
    await asyncio.sleep(0.1)
    assert not stopping.done()
    disk.refuses = False
    assert await stopping == [one.run.run_id]
    assert (await stores.runs.get(one.run.run_id)).status == Status.INCOMPLETE
    disk.refuses = True
    other = launch(engine, "wait")
    forgetting = asyncio.create_task(engine.cancel_all(other.owner))
    await asyncio.sleep(0.1)
    assert not forgetting.done()
    disk.refuses = False
    await forgetting
    assert (await stores.runs.get(other.run.run_id)).status == Status.CANCELED


async def test_what_a_run_is_told_meanwhile_is_stored_and_told_after_a_restart(
    engine_of: Engines, stores: Stores
) -> None:
    disk = Disk(stores)
    engine = await engine_of(app, store_seconds=0.1)
    run = launch(engine, "listen").run
    await until(lambda: run.paused_at is not None)
    await engine.steer(run.run_id, word("first"))
    assert run.record is not None
    assert len(run.record.answers) == len(run.answers_payload)
    disk.refuses = True
    with pytest.raises(StoreUnavailable):
        await engine.steer(run.run_id, word("second"))
    await repaired(engine, disk)
    with pytest.raises(LimitExceeded) as caught:
        await engine.steer(run.run_id, word("x" * STEERED_BYTES))
    assert caught.value.metadata["limit"] == "steered_bytes"
    await engine.stop()
    engine = await engine_of(app)
    await engine.steer(run.run_id, word("third"))
    await engine.resume(run.run_id, "", word("answer"))
    execution = engine.execution(run.run_id)
    assert execution is not None
    assert await text_of(engine, execution) == "first,second,third,answer"
