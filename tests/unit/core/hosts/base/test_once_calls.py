"""`context.once`: a result is stored for this attempt and later ones."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.engine import Disk, read, request, text_of

from portico.agent import AgentApp, Context
from portico.core.errors import LimitExceeded, StoreUnavailable
from portico.core.execution import context_stores
from portico.core.execution.execution import Execution
from portico.core.hosts.base import once_calls
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.ports.stores import Stores

Engines = Callable[..., Any]


def agent(function: Callable[..., Any], **options: Any) -> AgentApp:
    app = AgentApp("test", **options)
    app.query(function)
    return app


def launch(engine: RunEngine) -> Execution:
    launched = engine.admit_now(request("go", background=True))
    assert isinstance(launched, Execution)
    return launched


async def said(engine: RunEngine, app: Callable[..., Any]) -> str:
    return await text_of(engine, launch(engine))


async def test_a_rerun_gets_what_was_kept_and_calls_nothing(engine_of: Engines, stores: Stores) -> None:
    calls: list[str] = []
    at_work = asyncio.Event()

    async def charge(idempotency_key: str) -> Any:
        calls.append(idempotency_key)
        return {"id": 7, "parts": (1, 2)}

    def write() -> str:
        calls.append("written")
        return "file"

    async def query(context: Context) -> Any:
        charged = await context.once("charge", charge)
        written = await context.once("write", write)
        nothing = await context.once("nothing", lambda: None)
        yield f"{charged} {written} {nothing}"
        if context.attempt == 1:
            at_work.set()
            await asyncio.sleep(30)

    app = agent(query, on_restart="rerun")
    engine = await engine_of(app)
    run = launch(engine).run
    await asyncio.wait_for(at_work.wait(), 5)
    await engine.stop()
    engine = await engine_of(app)
    events = await asyncio.wait_for(read(await engine.watch(run.run_id, -1)), 10)
    end = events[-1].response
    assert end.attempt == 2
    assert end.output[0].content[0].text == "{'id': 7, 'parts': [1, 2]} file None"
    assert len(calls) == 2
    assert calls[0].startswith("once_")
    assert calls[1] == "written"
    # A result is not an event, and is deleted with the run.
    assert not [event for event in events if "once" in str(event)]
    assert await stores.results.count(run.run_id) == 3
    await engine.delete(run.run_id)
    assert await stores.results.count(run.run_id) == 0


async def test_each_run_and_each_key_has_a_result_and_an_idempotency_key_of_its_own(
    engine_of: Engines,
) -> None:
    async def query(context: Context) -> Any:
        for key in ("a", "b", "a"):
            yield f"{await context.once(key, lambda idempotency_key: idempotency_key)} "

    engine = await engine_of(agent(query))
    first, second = (await said(engine, query)).split(), (await said(engine, query)).split()
    assert first[0] == first[2]
    assert len({*first, *second}) == 4


async def test_callers_of_one_key_at_once_share_one_call(engine_of: Engines) -> None:
    calls: list[int] = []

    async def slow() -> int:
        calls.append(1)
        await asyncio.sleep(0.05)
        return len(calls)

    async def query(context: Context) -> Any:
        results = await asyncio.gather(*(context.once("k", slow) for _ in range(10)))
        yield f"{results} {len(calls)}"

    assert await said(await engine_of(agent(query)), query) == f"{[1] * 10} 1"


async def test_an_exception_is_told_to_all_and_not_kept(engine_of: Engines) -> None:
    calls: list[int] = []

    async def fails() -> int:
        calls.append(1)
        await asyncio.sleep(0.01)
        if len(calls) == 1:
            raise ValueError("no luck")
        return 5

    async def query(context: Context) -> Any:
        first = await asyncio.gather(*(context.once("k", fails) for _ in range(3)), return_exceptions=True)
        yield f"{[str(each) for each in first]} {await context.once('k', fails)} {len(calls)}"

    assert await said(await engine_of(agent(query)), query) == f"{['no luck'] * 3} 5 2"


async def test_who_waits_takes_the_place_of_who_was_cancelled(engine_of: Engines) -> None:
    calls: list[int] = []

    async def slow() -> int:
        calls.append(1)
        await asyncio.sleep(30 if len(calls) == 1 else 0)
        return len(calls)

    async def query(context: Context) -> Any:
        first = asyncio.create_task(context.once("k", slow))
        second = asyncio.create_task(context.once("k", slow))
        await asyncio.sleep(0.1)
        first.cancel()
        yield f"{await second} {first.cancelled()}"

    assert await said(await engine_of(agent(query)), query) == "2 True"


async def test_a_plain_agent_calls_a_plain_function(engine_of: Engines) -> None:
    def query(context: Context) -> str:
        return f"{[context.call(context.once('k', lambda: 7)) for _ in range(2)]}"

    assert await said(await engine_of(agent(query)), query) == "[7, 7]"


async def test_what_can_not_be_kept_is_refused(engine_of: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_stores, "MAX_RESULTS", 2)
    told: list[BaseException | None] = []

    async def query(context: Context) -> Any:
        async def nested() -> Any:
            return await context.once("nested", nested)

        for key, function in (
            ("set", lambda: {1, 2}),
            ("long", lambda: "x" * once_calls.RESULT_BYTES),
            ("nested", nested),
            ("", lambda: 1),
            ("k" * 257, lambda: 1),
            ("fits", lambda: "x" * (once_calls.RESULT_BYTES - 2)),
            ("second", lambda: 2),
            ("third", lambda: 3),
            ("second", lambda: 4),
        ):
            try:
                await context.once(key, function)
                told.append(None)
            except Exception as error:
                told.append(error)
        yield "done"

    await said(await engine_of(agent(query)), query)
    kinds = [type(error) for error in told]
    nothing = type(None)
    assert kinds == [
        *(TypeError, LimitExceeded, RuntimeError, ValueError, ValueError),
        *(nothing, nothing, LimitExceeded, nothing),
    ]
    assert [error.metadata["limit"] for error in told if isinstance(error, LimitExceeded)] == [
        "once_result",
        "once_results",
    ]


async def test_no_function_is_called_for_a_run_that_a_crash_would_not_leave(
    engine_of: Engines, stores: Stores
) -> None:
    disk = Disk(stores)
    calls: list[int] = []

    async def query(context: Context) -> Any:
        yield f"{await context.once('k', lambda: calls.append(1))}"

    engine = await engine_of(agent(query))
    disk.refuses = True
    execution = launch(engine)
    await asyncio.sleep(0.1)
    assert not calls
    disk.refuses = False
    await text_of(engine, execution)
    assert calls == [1]


async def test_a_result_waits_for_a_store_that_refuses_writes(
    engine_of: Engines, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals: list[int] = []
    keep = stores.results.keep

    async def refuse(run_id: str, key: str, result: bytes) -> None:
        if len(refusals) < 3:
            refusals.append(1)
            raise StoreUnavailable("the disk is full")
        await keep(run_id, key, result)

    monkeypatch.setattr(stores.results, "keep", refuse)
    calls: list[int] = []

    async def query(context: Context) -> Any:
        await context.once("k", lambda: calls.append(1))
        yield f"{len(calls)}"

    assert await said(await engine_of(agent(query)), query) == "1"
    assert len(refusals) == 3


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_graceful_stop_keeps_the_result_of_a_plain_function(
    engine_of: Engines, tmp_path: Path, kind: str
) -> None:
    """A thread cannot be stopped, so its result is stored and the function is not called again."""
    at_work = asyncio.Event()
    loop = asyncio.get_running_loop()
    calls: list[int] = []

    def slow() -> int:
        import time

        calls.append(1)
        loop.call_soon_threadsafe(at_work.set)
        time.sleep(0.2)
        return len(calls)

    def query(context: Context) -> str:
        return f"{context.call(context.once('k', slow))}"

    async def query_async(context: Context) -> str:
        return f"{await context.once('k', slow)}"

    app = agent(query if kind == "plain" else query_async, on_restart="rerun")
    engine = await engine_of(app)
    run = launch(engine).run
    await asyncio.wait_for(at_work.wait(), 5)
    await engine.stop()
    engine = await engine_of(app)
    *_, end = await asyncio.wait_for(read(await engine.watch(run.run_id, -1)), 10)
    assert end.response.output[0].content[0].text == "1"
    assert calls == [1]
