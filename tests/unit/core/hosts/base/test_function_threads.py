"""Plain functions in threads: their number at once, and the output that is kept of a stopped one."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.engine import Disk, request, text_of

from portico.agent import AgentApp, Context, Message, Role, Status, TextContent
from portico.core.execution.execution import Execution, StopReason
from portico.core.runs.run_engine import RunEngine

Engines = Callable[..., Any]


def agent(function: Callable[..., Any]) -> AgentApp:
    app = AgentApp("test")
    app.query(function)
    return app


def launch(engine: RunEngine, text: str = "go") -> Execution:
    launched = engine.admit_now(request(text, background=True))
    assert isinstance(launched, Execution)
    return launched


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def answer(engine: RunEngine, execution: Execution, text: str) -> None:
    await engine.resume(execution.run.run_id, "", [Message(Role.USER, (TextContent(text),), id=f"m_{text}")])


def function_of(seen: list[str], go: threading.Event) -> Callable[..., Any]:
    def query(msgs: Any) -> str:
        seen.append(msgs[-1].text)
        go.wait(5)
        return "done"

    return query


def generator_of(seen: list[str], go: threading.Event) -> Callable[..., Any]:
    def query(msgs: Any) -> Any:
        seen.append(msgs[-1].text)
        go.wait(5)
        yield "done"

    return query


@pytest.mark.parametrize("stop", ["cancel", "interrupt"])
@pytest.mark.parametrize("kind", [function_of, generator_of])
async def test_a_run_that_is_stopped_before_its_turn_never_executes(
    engine_of: Engines, kind: Callable[..., Any], stop: str
) -> None:
    seen: list[str] = []
    go = threading.Event()
    engine = await engine_of(agent(kind(seen, go)), threads=1)
    first = launch(engine, "first")
    await until(lambda: seen == ["first"])
    second = launch(engine, "second")
    await second.run.wait_published(1)
    await asyncio.wait_for(getattr(engine, stop)(second.run.run_id), 2)
    go.set()
    await until(lambda: first.run.is_terminal_durable)
    third = launch(engine, "third")
    await until(lambda: third.run.is_terminal_durable)
    assert seen == ["first", "third"]


def waiting(msgs: Any, context: Context) -> str:
    if msgs[-1].text != "ask":
        return "at work"
    return context.input_required("?").wait()[0].text


def yielding(msgs: Any, context: Context) -> Any:
    if msgs[-1].text != "ask":
        yield "at work"
    else:
        answer = yield context.input_required("?")
        yield answer[0].text


@pytest.mark.parametrize("function", [waiting, yielding])
async def test_who_waits_for_a_human_keeps_nobody_from_working(
    engine_of: Engines, function: Callable[..., Any]
) -> None:
    engine = await engine_of(agent(function), threads=1)
    asking = [launch(engine, "ask") for _ in range(3)]
    await until(lambda: all(execution.paused for execution in asking))
    working = launch(engine)
    await until(lambda: working.run.is_terminal_durable)
    assert await text_of(engine, working) == "at work"
    for execution in asking:
        await answer(engine, execution, "yes")
    await until(lambda: all(execution.run.is_terminal_durable for execution in asking))
    assert [await text_of(engine, execution) for execution in asking] == ["yes"] * 3


@pytest.mark.parametrize("kind", ["function", "generator"])
async def test_who_was_answered_waits_for_its_turn_or_its_end(engine_of: Engines, kind: str) -> None:
    go = threading.Event()
    goes_on: list[bool] = []

    def function(msgs: Any, context: Context) -> str:
        if msgs[-1].text == "ask":
            context.input_required("?").wait()
            goes_on.append(True)
        elif msgs[-1].text == "block":
            go.wait(5)
        return ""

    def generator(msgs: Any, context: Context) -> Any:
        if msgs[-1].text == "ask":
            yield context.input_required("?")
            goes_on.append(True)
        elif msgs[-1].text == "block":
            go.wait(5)

    engine = await engine_of(agent(function if kind == "function" else generator), threads=1)
    patient, cancelled = launch(engine, "ask"), launch(engine, "ask")
    await until(lambda: patient.paused and cancelled.paused)
    blocking = launch(engine, "block")
    await blocking.run.wait_published(1)
    await answer(engine, patient, "yes")
    await answer(engine, cancelled, "yes")
    await asyncio.sleep(0.02)
    assert goes_on == []
    await asyncio.wait_for(engine.cancel(cancelled.run.run_id), 2)
    go.set()
    await until(lambda: patient.run.is_terminal_durable and blocking.run.is_terminal_durable)
    assert goes_on == [True]
    last = launch(engine)
    await until(lambda: last.run.is_terminal_durable)


async def test_an_interrupted_generator_keeps_its_words_to_the_last(engine_of: Engines) -> None:
    def talking(context: Context) -> Any:
        number = 0
        while not context.interrupted:
            yield f"{number} "
            number += 1
            time.sleep(0.001)
        yield "last word"

    engine = await engine_of(agent(talking))
    execution = launch(engine)
    await until(lambda: execution.run.published > 10)
    await asyncio.wait_for(engine.interrupt(execution.run.run_id), 5)
    words = (await text_of(engine, execution)).split(" ", -1)
    assert words[:-2] == [str(number) for number in range(len(words) - 2)]
    assert words[-2:] == ["last", "word"]
    assert execution.run.status is Status.INCOMPLETE


async def test_an_interruption_drops_nothing_of_a_generator_that_is_ahead(
    engine_of: Engines, stores: Any
) -> None:
    counted: list[int] = []

    def talking(context: Context) -> Any:
        number = 0
        while not context.interrupted:
            yield f"{number} "
            counted.append(number)
            number += 1

    disk = Disk(stores)
    engine = await engine_of(agent(talking))
    disk.delay = 0.05  # the log is slower than the reader, the reader slower than the generator
    execution = launch(engine)
    await until(lambda: execution.run.published >= 0 and execution.run.needs_drain)
    await asyncio.sleep(0.02)
    await asyncio.wait_for(engine.interrupt(execution.run.run_id), 5)
    assert (await text_of(engine, execution)).split() == [str(number) for number in counted]


async def test_a_generator_that_is_interrupted_at_its_question_has_a_last_word(engine_of: Engines) -> None:
    def asking(context: Context) -> Any:
        try:
            yield context.input_required("?")
        except asyncio.CancelledError:
            yield "never mind"

    engine = await engine_of(agent(asking))
    execution = launch(engine)
    await until(lambda: execution.paused)
    await asyncio.wait_for(engine.interrupt(execution.run.run_id), 5)
    assert await text_of(engine, execution) == "never mind"


async def test_an_interrupted_function_keeps_its_last_word(engine_of: Engines) -> None:
    def working(context: Context) -> str:
        while not context.interrupted:
            time.sleep(0.001)
        return "so far"

    engine = await engine_of(agent(working))
    execution = launch(engine)
    await execution.run.wait_published(1)
    await asyncio.wait_for(engine.interrupt(execution.run.run_id), 5)
    assert await text_of(engine, execution) == "so far"


async def test_what_is_yielded_after_a_cancel_is_dropped(engine_of: Engines) -> None:
    def talking(context: Context) -> Any:
        yield "before"
        while not context.cancelled:
            time.sleep(0.001)
        yield "after"

    engine = await engine_of(agent(talking))
    execution = launch(engine)
    await execution.run.wait_published(3)
    execution.request_stop(StopReason.INTERRUPT)
    await asyncio.sleep(0.01)
    await asyncio.wait_for(engine.cancel(execution.run.run_id), 5)
    assert await text_of(engine, execution) == "before"
    assert execution.run.status is Status.CANCELED
