"""Run engine, without processes and sockets."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.engine import Disk, read, request

from portico.agent import AgentApp, AgentError, Message, Role, Status, TextContent, Usage
from portico.core.errors import AgentNotFound, CursorAhead, Draining, LimitExceeded, StoreUnavailable
from portico.core.execution import execution as module
from portico.core.hosts.local.local_host import LocalHost
from portico.core.runs import run_engine
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.ports.stores import Stores
from portico.v1 import events_pb2

Engines = Callable[..., Any]


def agent(function: Callable[..., Any], **options: Any) -> AgentApp:
    app = AgentApp("test", **options)
    app.query(function)
    return app


async def count(msgs: Any) -> Any:
    for number in range(int(msgs[-1].text)):
        yield f"{number} "


async def test_nothing_is_seen_before_it_is_durable(engine_of: Engines, stores: Stores) -> None:
    disk = Disk(stores)
    disk.delay = 0.05
    engine = await engine_of(agent(count))
    execution = engine.admit_now(request("10"))
    reader = engine.read(execution)
    assert reader.poll() == b""
    await asyncio.sleep(0.02)
    assert reader.poll() == b""
    assert engine.execution(execution.run.run_id) is None
    await engine.wait_durable(execution.run, 0)
    for after in range(execution.run.published + 1, execution.run.next_sequence_number):
        with pytest.raises(CursorAhead):
            engine.watch_live(execution.run.run_id, after)
    events = await read(reader)
    committed = sum(chunk.last - chunk.first + 1 for commit in disk.commits for chunk in commit.chunks)
    assert len(events) == committed


async def test_an_agent_can_not_run_far_ahead_of_the_store(engine_of: Engines, stores: Stores) -> None:
    disk = Disk(stores)
    produced = 0

    async def endless() -> Any:
        nonlocal produced
        while True:
            produced += 1
            yield "x"

    engine = await engine_of(agent(endless))
    disk.delay = 0.2
    execution = engine.admit_now(request("go"))
    await asyncio.sleep(0.1)
    assert produced <= 600
    await engine.wait_durable(execution.run, 0)
    await engine.cancel(execution.run.run_id)


async def test_a_store_that_refuses_delays_runs_and_loses_nothing(engine_of: Engines, stores: Stores) -> None:
    disk = Disk(stores)
    engine = await engine_of(agent(count))
    execution = engine.admit_now(request("5"))
    disk.refuses = True
    await asyncio.sleep(0.1)
    with pytest.raises(StoreUnavailable):
        engine.admit_now(request("5"))
    disk.refuses = False
    events = await read(engine.read(execution))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.status == events_pb2.RUN_STATUS_COMPLETED
    assert await read(engine.read(engine.admit_now(request("1"))))


async def test_many_runs_share_a_transaction(engine_of: Engines, stores: Stores) -> None:
    disk = Disk(stores)
    engine = await engine_of(agent(count))
    disk.delay = 0.01
    readers = [engine.read(engine.admit_now(request("20"))) for _ in range(100)]
    await asyncio.gather(*(read(reader) for reader in readers))
    assert len(disk.commits) < 20


async def test_a_plain_function_runs_beside_the_loop(engine_of: Engines) -> None:
    def slow(msgs: Any) -> str:
        time.sleep(0.3)
        return "done"

    engine = await engine_of(agent(slow))
    reading = asyncio.create_task(read(engine.read(engine.admit_now(request("go")))))
    ticks = 0
    while not reading.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert ticks > 10
    assert (await reading)[-1].response.output[0].content[0].text == "done"


async def test_a_plain_generator_is_stopped_and_its_clean_up_awaited(engine_of: Engines) -> None:
    cleaned: list[bool] = []

    def endless() -> Any:
        try:
            while True:
                yield "x"
                time.sleep(0.001)
        finally:
            time.sleep(0.05)
            cleaned.append(True)

    engine = await engine_of(agent(endless))
    execution = engine.admit_now(request("go"))
    await asyncio.sleep(0.05)
    await engine.cancel(execution.run.run_id)
    assert cleaned == [True]
    assert execution.run.status is Status.CANCELED


async def test_a_plain_generator_may_ask(engine_of: Engines) -> None:
    def asking(context: Any) -> Any:
        answer = yield context.input_required("name?")
        yield f"hello {answer[0].text}"

    engine = await engine_of(agent(asking))
    execution = engine.admit_now(request("go"))
    await read(engine.read(execution))
    await engine.resume(
        execution.run.run_id, "", [Message(Role.USER, (TextContent("Ada"),), id="msg_answer")]
    )
    events = await read(engine.read(execution, execution.run.published - 1))
    while not execution.run.is_terminal_durable:
        events = await read(engine.read(execution, events[-1].sequence_number))
    assert events[-1].response.output[-1].content[0].text == "hello Ada"


async def test_an_agents_own_error_keeps_its_code(engine_of: Engines) -> None:
    async def failing() -> Any:
        yield "so far"
        raise AgentError("no quota", code="QUOTA")

    engine = await engine_of(agent(failing))
    events = await read(engine.read(engine.admit_now(request("go"))))
    assert events[-1].response.error.code == "QUOTA"
    assert events[-1].response.output[0].status == events_pb2.RUN_STATUS_INCOMPLETE


async def test_what_can_not_be_yielded_is_named(engine_of: Engines) -> None:
    async def odd() -> Any:
        yield object()

    engine = await engine_of(agent(odd))
    events = await read(engine.read(engine.admit_now(request("go"))))
    assert "object" in events[-1].response.error.message


async def test_dicts_are_read_as_what_they_say(engine_of: Engines) -> None:
    async def dicts() -> Any:
        yield {"type": "text", "text": "a text"}
        yield {"answer": 42}
        yield {"role": "assistant", "content": "a message"}

    engine = await engine_of(agent(dicts))
    events = await read(engine.read(engine.admit_now(request("go"))))
    output = events[-1].response.output
    assert [part.WhichOneof("value") for message in output for part in message.content] == [
        "text",
        "data_json",
        "text",
    ]


async def test_an_agent_that_swallows_cancellation_is_told_again(
    engine_of: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CANCEL_RETRY_SECONDS", 0.05)
    deaf = 3

    async def stubborn() -> Any:
        nonlocal deaf
        yield "x"
        while True:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                deaf -= 1
                if deaf < 0:
                    raise

    engine = await engine_of(agent(stubborn))
    execution = engine.admit_now(request("go"))
    await asyncio.sleep(0.02)
    await engine.cancel(execution.run.run_id)
    assert execution.run.status is Status.CANCELED


async def test_limits_and_drain_are_typed(engine_of: Engines) -> None:
    async def waiting() -> Any:
        yield "x"
        await asyncio.sleep(30)

    engine: RunEngine = await engine_of(agent(waiting), live_runs=2)
    first = engine.admit_now(request("go"))
    assert not isinstance(first, str)
    engine.admit_now(request("go"))
    with pytest.raises(LimitExceeded):
        engine.admit_now(request("go"))
    engine.draining = True
    with pytest.raises(Draining):
        engine.admit_now(request("go"))


async def test_an_unknown_agent_is_not_found(engine_of: Engines) -> None:
    engine = await engine_of(agent(count))
    with pytest.raises(AgentNotFound):
        engine.admit_now(request("go", agent_name="nobody"))


async def test_a_repeat_of_a_request_has_its_digest() -> None:
    assert request("go").digest == request("go").digest
    assert request("go").digest != request("stay").digest


def test_agents_are_checked_when_they_are_served() -> None:
    with pytest.raises(ValueError, match="no query function"):
        LocalHost([AgentApp("empty")])
    with pytest.raises(ValueError, match="have the name"):
        LocalHost([agent(count), agent(count)])
    with pytest.raises(ValueError, match="printable"):
        AgentApp("a/b")


ODD: dict[str, object] = {
    "surrogate": "\ud800",
    "surrogate in data": {"a": "\ud800"},
    "fraction of a token": Usage(input_tokens=1.5),  # type: ignore[arg-type]
    "huge number": {"big": 2**100},
}


@pytest.mark.parametrize("name", ODD)
async def test_what_can_not_be_encoded_fails_the_run_and_nothing_else(
    engine_of: Engines, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    async def odd() -> Any:
        yield "before"
        yield ODD[name]

    engine = await engine_of(agent(odd))
    events = await read(engine.read(engine.admit_now(request("go"))))
    assert events[-1].response.HasField("completed_time")
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_an_exception_with_odd_words_still_ends_the_run(
    engine_of: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # captured, the invalid text would break the test report

    async def odd() -> Any:
        yield "before"
        raise ValueError("\ud800" + "x" * 100_000)

    engine = await engine_of(agent(odd))
    events = await read(engine.read(engine.admit_now(request("go"))))
    assert events[-1].response.status == events_pb2.RUN_STATUS_FAILED
    assert len(events[-1].response.error.message) <= 8192


async def test_an_agent_that_can_not_be_stopped_does_not_keep_the_engine(
    engine_of: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_engine, "STOP_SECONDS", 0.1)
    free = threading.Event()

    def deaf() -> None:
        free.wait(30)

    engine = await engine_of(agent(deaf))
    engine.admit_now(request("go"))
    await asyncio.sleep(0.05)
    await asyncio.wait_for(engine.stop(), 5)
    free.set()
