"""Failing agents: a failure harms its own run at most, and every run ends exactly once."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.engine import read, request

from portico.agent import AgentApp, Context, Message, Role, Status, TextContent, data, usage
from portico.core.errors import InvalidArgument, RunNotFound
from portico.core.execution.execution import StopReason
from portico.core.stores.ports.stores import Stores
from portico.v1 import events_pb2

Engines = Callable[..., Any]


def agent(function: Callable[..., Any], **options: Any) -> AgentApp:
    app = AgentApp("test", **options)
    app.query(function)
    return app


async def ended(engine: Any, execution: Any) -> events_pb2.Response:
    events = await asyncio.wait_for(read(engine.read(execution)), 10)
    ends = [e for e in events if e.HasField("response") and e.response.HasField("completed_time")]
    assert len(ends) == 1
    assert ends[0] is events[-1]
    return ends[0].response


async def test_odd_usage_harms_nobody(engine_of: Engines) -> None:
    async def odd() -> Any:
        yield usage(input_tokens=None, output_tokens=2.0)  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        yield "fine"

    engine = await engine_of(agent(odd))
    response = await ended(engine, engine.admit_now(request("go")))
    assert response.status == events_pb2.RUN_STATUS_COMPLETED
    assert response.usage.total_tokens == 2


async def test_a_plain_function_may_answer_a_cancel_with_cancelled_error(engine_of: Engines) -> None:
    def polite(context: Context) -> None:
        while not context.cancelled:
            pass
        raise asyncio.CancelledError

    engine = await engine_of(agent(polite))
    execution = engine.admit_now(request("go"))
    await asyncio.sleep(0.05)
    await asyncio.wait_for(engine.cancel(execution.run.run_id), 10)
    assert execution.run.status is Status.CANCELED


def test_json_that_can_not_be_written_again_is_refused() -> None:
    nested = '{"a":' * 300 + "1" + "}" * 300
    with pytest.raises(InvalidArgument, match="deep"):
        request("go", metadata_json=nested)


async def test_a_run_that_is_stopped_in_the_moment_of_its_start_ends(engine_of: Engines) -> None:
    async def waiting() -> Any:
        yield "x"
        await asyncio.sleep(30)

    engine = await engine_of(agent(waiting))
    execution = engine.admit_now(request("go"))
    execution.request_stop(StopReason.CANCEL)
    assert (await ended(engine, execution)).status == events_pb2.RUN_STATUS_CANCELED


async def test_nobody_asks_after_the_end(engine_of: Engines) -> None:
    problems: list[BaseException] = []
    tasks = []

    async def late(context: Context) -> Any:
        async def ask_later() -> None:
            await asyncio.sleep(0.05)
            try:
                await context.input_required("still there?")
            except RuntimeError as error:
                problems.append(error)

        tasks.append(asyncio.create_task(ask_later()))
        yield "done"

    engine = await engine_of(agent(late))
    execution = engine.admit_now(request("go"))
    assert (await ended(engine, execution)).status == events_pb2.RUN_STATUS_COMPLETED
    last = execution.run.next_sequence_number
    await asyncio.gather(*tasks)
    assert problems
    assert execution.run.next_sequence_number == last


async def test_a_plain_function_that_waits_for_an_answer_can_be_cancelled(engine_of: Engines) -> None:
    def asking(context: Context) -> str:
        return context.input_required("name?").wait()[0].text

    engine = await engine_of(agent(asking))
    execution = engine.admit_now(request("go"))
    while not execution.paused:
        await asyncio.sleep(0.01)
    await asyncio.wait_for(engine.cancel(execution.run.run_id), 10)
    assert execution.run.status is Status.CANCELED


async def test_wait_on_the_event_loop_is_an_error_and_no_deadlock(engine_of: Engines) -> None:
    async def wrong(context: Context) -> Any:
        yield context.input_required("name?").wait()

    engine = await engine_of(agent(wrong))
    response = await ended(engine, engine.admit_now(request("go")))
    assert "await it" in response.error.message


def test_messages_take_words_for_enums_and_texts_for_contents() -> None:
    message = Message(role="user", content="hello")  # type: ignore[arg-type]
    assert (message.role, message.text) == (Role.USER, "hello")
    with pytest.raises(TypeError, match="must be contents, not int"):
        Message(content=[1])  # type: ignore[list-item]


async def test_data_that_is_no_object_fails_its_run_with_words(engine_of: Engines) -> None:
    async def odd() -> Any:
        yield data([1, 2])  # type: ignore[arg-type]

    engine = await engine_of(agent(odd))
    assert "JSON object" in (await ended(engine, engine.admit_now(request("go")))).error.message


async def test_an_exception_without_words_ends_its_run(engine_of: Engines) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    async def odd() -> Any:
        yield "x"
        raise Mute

    engine = await engine_of(agent(odd))
    assert "Mute" in (await ended(engine, engine.admit_now(request("go")))).error.message


async def test_a_reader_of_a_deleted_run_is_told(engine_of: Engines, stores: Stores) -> None:
    async def short() -> Any:
        yield "x"

    engine = await engine_of(agent(short))
    execution = engine.admit_now(request("go"))
    await ended(engine, execution)
    reader = await engine.watch(execution.run.run_id, 0)
    await engine.delete(execution.run.run_id)
    with pytest.raises(RunNotFound):
        await asyncio.wait_for(read(reader), 10)


async def test_a_reader_that_is_behind_when_its_run_is_deleted_is_told(engine_of: Engines) -> None:
    async def long() -> Any:
        for _ in range(20):
            yield "x" * 30_000  # more than the ring keeps in memory

    engine = await engine_of(agent(long))
    execution = engine.admit_now(request("go"))
    reader = engine.read(execution)
    await ended(engine, execution)
    await engine.delete(execution.run.run_id)
    with pytest.raises(RunNotFound):
        await asyncio.wait_for(read(reader), 10)


async def test_an_answer_that_can_not_be_kept_leaves_the_question_open(engine_of: Engines) -> None:
    async def asking(context: Context) -> Any:
        answer = yield context.input_required("?")
        yield answer[0].text

    engine = await engine_of(agent(asking))
    execution = engine.admit_now(request("go"))
    await read(engine.read(execution))
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    with pytest.raises(TypeError):
        await engine.resume(execution.run.run_id, "", [Message(Role.USER, (data(deep),), id="m")])
    await engine.resume(execution.run.run_id, "", [Message(Role.USER, (TextContent("ok"),), id="m")])
    while not execution.run.is_terminal_durable:
        await asyncio.sleep(0.01)
    assert execution.run.status is Status.COMPLETED
