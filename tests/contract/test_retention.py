"""Retention deletes data older than its limits, and nothing else, in every store. The tests set the time."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from support.engine import request, text_of

from portico.agent import AgentApp, Context
from portico.core.convert.events import ProtoEncoder
from portico.core.errors import RunNotFound, StoreUnavailable
from portico.core.execution.execution import Execution
from portico.core.hosts.local.local_host import LocalHost
from portico.core.lifecycle import retention as module
from portico.core.lifecycle.retention import CLOCK_DISTRUST_SECONDS, Retention, RetentionTtls
from portico.core.runs.removal import BATCH
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.ports.push_configs import PushRecord
from portico.core.stores.ports.stores import (
    Commit,
    MemoryRecord,
    NewMessage,
    NewSession,
    RunFilter,
    RunRecord,
    Stores,
)
from portico.v1 import query_pb2

DAY = 86_400.0
EVERYTHING = RetentionTtls(runs=DAY, sessions=DAY, states=DAY, memories=DAY)


class Clocks:
    """The clocks that the retention reads: the date and the monotonic time."""

    def __init__(self) -> None:
        self.date = time.time()
        self.moment = 1000.0

    def later(self, seconds: float) -> None:
        self.date += seconds
        self.moment += seconds


@pytest.fixture
async def engine(stores: Stores) -> AsyncIterator[RunEngine]:
    app = AgentApp("echo")

    @app.query
    async def query(msgs: list[object], context: Context) -> AsyncIterator[str]:
        if "wait" in str(msgs):
            await context.input_required("well?")
        yield "done"

    engine = RunEngine(LocalHost([app]), stores, ProtoEncoder())
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


Sweep = Callable[[RetentionTtls], Retention]


@pytest.fixture
def retention(engine: RunEngine, stores: Stores, clocks: Clocks) -> Sweep:
    def made(ttls: RetentionTtls) -> Retention:
        return Retention(engine, stores, ttls, clock=lambda: clocks.date, monotonic=lambda: clocks.moment)

    return made


async def run(engine: RunEngine, session_id: str, text: str = "hi") -> str:
    """Add a run of ada's that has ended, or that waits for input; return its id."""
    asked = query_pb2.AgentRequest(user_id="ada", session_id=session_id)
    execution = engine.admit_now(request(text, agent_name="echo", background=True, request=asked))
    assert isinstance(execution, Execution)
    if text == "hi":
        await text_of(engine, execution)
    else:
        while execution.run.paused_at is None:
            await asyncio.sleep(0.001)
    return execution.run.run_id


async def kept(stores: Stores) -> list[int]:
    """Return how many runs, sessions, states and memories ada has."""
    return [
        await stores.runs.count(RunFilter()),
        len(await stores.sessions.list("ada", None, 1000)),
        len(await stores.states.list("ada", None, None, 1000)),
        len(await stores.memories.list("ada", None, None, 1000)),
    ]


async def one_of_each(engine: RunEngine, stores: Stores, session_id: str, *, date: float) -> str:
    await stores.states.save("ada", session_id, None, "{}", None)
    await stores.memories.add(
        [MemoryRecord(f"mem-{session_id}", "ada", session_id, "penguin", date, updated_at=date)]
    )
    return await run(engine, session_id)


async def test_each_kind_goes_when_it_is_too_old_and_not_before(
    engine: RunEngine, stores: Stores, clocks: Clocks, retention: Sweep
) -> None:
    run_id = await one_of_each(engine, stores, "s1", date=clocks.date)
    await stores.pushes.set(PushRecord(run_id, "c", "http://x", "", "", "", -1, False, 1.0, "v", ""))
    sweeping = retention(RetentionTtls(runs=4 * DAY, sessions=3 * DAY, states=2 * DAY, memories=DAY))
    clocks.later(60)
    before = [1, 1, 1, 1]
    for left in ([1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]):
        clocks.later(DAY - 120)
        await sweeping.sweep()
        assert await kept(stores) == before
        clocks.later(120)
        await sweeping.sweep()
        assert await kept(stores) == left
        before = left
    with pytest.raises(RunNotFound):
        await stores.runs.get(run_id)
    assert await stores.runs.read(run_id, -1, 1000) == []
    assert await stores.pushes.undelivered() == []
    assert not await stores.sessions.search("ada", "hi", None, 10)
    assert not await stores.memories.search("ada", "penguin", 10)


async def test_the_key_of_a_run_that_went_starts_another(
    engine: RunEngine, stores: Stores, clocks: Clocks, retention: Sweep
) -> None:
    keyed = request("hi", agent_name="echo", background=True, idempotency_key="order-1")
    first = await engine.admit(keyed)
    assert isinstance(first, Execution)
    await text_of(engine, first)
    assert await engine.admit(keyed) == first.run.run_id
    clocks.later(2 * DAY)
    await retention(EVERYTHING).sweep()
    again = await engine.admit(keyed)
    assert isinstance(again, Execution)
    await text_of(engine, again)


async def test_without_a_ttl_everything_stays(
    engine: RunEngine, stores: Stores, clocks: Clocks, retention: Sweep
) -> None:
    await one_of_each(engine, stores, "s1", date=clocks.date)
    clocks.later(1000 * DAY)
    await retention(RetentionTtls()).sweep()
    assert await kept(stores) == [1, 1, 1, 1]


async def test_what_is_live_stays_however_old_and_its_session(
    engine: RunEngine, stores: Stores, clocks: Clocks, retention: Sweep
) -> None:
    waiting = await run(engine, "s1", "wait")
    await run(engine, "s2")
    clocks.later(10 * DAY)
    await retention(EVERYTHING).sweep()
    assert (await stores.runs.get(waiting)).status == "input_required"
    assert [one.session_id for one in await stores.sessions.list("ada", None, 10)] == ["s1"]
    await engine.cancel(waiting)
    clocks.later(2 * DAY)
    await retention(EVERYTHING).sweep()
    assert await kept(stores) == [0, 0, 0, 0]


async def test_what_was_used_since_is_not_idle(
    engine: RunEngine, stores: Stores, clocks: Clocks, retention: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run(engine, "s1")
    clocks.later(2 * DAY)
    delete = stores.sessions.delete

    async def late(user_id: str, session_id: str, *, idle_since: float | None = None) -> None:
        """Use the session after the sweeper has listed it, and before it deletes it."""
        record = await stores.sessions.get(user_id, session_id)
        said = NewMessage("ada", session_id, "m", "user", "hi", b"", clocks.date)
        assert await stores.sessions.append("ada", session_id, [said])
        assert (await stores.sessions.get(user_id, session_id)).updated_at > record.updated_at
        await delete(user_id, session_id, idle_since=idle_since)

    monkeypatch.setattr(stores.sessions, "delete", late)
    await retention(EVERYTHING).sweep()
    assert len(await stores.sessions.messages("ada", "s1", None, 10, False)) == 3


async def test_more_than_a_batch_goes_and_the_young_stay(
    engine: RunEngine, stores: Stores, clocks: Clocks, retention: Sweep
) -> None:
    """Add old data, as after a long time in which no core ran."""
    count = 2 * BATCH + 1
    old = [MemoryRecord(f"m{number}", "ada", "s", "penguin", 1.0) for number in range(count)]
    young = MemoryRecord("young", "ada", "s", "penguin", clocks.date, updated_at=clocks.date)
    await stores.memories.add([*old, young])
    runs = [_ended(f"r{number}", 1.0) for number in range(count)]
    sessions = [NewSession("ada", f"s{number}", 1.0) for number in range(BATCH + 1)]
    await stores.runs.commit(Commit([*runs, _ended("young", clocks.date)], sessions=sessions))
    await retention(EVERYTHING).sweep()
    assert await kept(stores) == [1, 0, 0, 1]
    assert (await stores.runs.get("young")).run_id == "young"


async def test_each_batch_is_followed_by_a_rest_of_four_times_its_length(
    engine: RunEngine, stores: Stores, clocks: Clocks, retention: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deletes take at most a fifth of the time, so a core with much old data still serves its callers."""
    count = 2 * BATCH + 1
    memories = [MemoryRecord(f"m{number}", "ada", "s", "penguin", 1.0) for number in range(count)]
    await stores.memories.add(memories)
    sessions = [NewSession("ada", f"s{number}", 1.0) for number in range(3)]
    runs = [_ended(f"r{number}", 1.0) for number in range(BATCH + 1)]
    await stores.runs.commit(Commit(runs, sessions=sessions))
    for number in range(BATCH + 1):
        await stores.states.save("ada", "t", number + 1, "{}", None)
    clocks.later(2 * DAY)
    worked: list[str] = []
    rested: list[float] = []
    for store, name in (
        (stores.runs, "ended"),
        (stores.sessions, "delete"),
        (stores.states, "expire"),
        (stores.memories, "expire"),
    ):
        monkeypatch.setattr(store, name, _taking(2.0, clocks, getattr(store, name), worked))
    sleep, mine = asyncio.sleep, asyncio.current_task()

    async def rest(seconds: float) -> None:
        if asyncio.current_task() is not mine:
            await sleep(seconds)
        elif seconds:
            rested.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", rest)
    await retention(EVERYTHING).sweep()
    assert await kept(stores) == [0, 0, 0, 0]
    assert len(worked) >= 2 + 3 + 2 + 3
    assert rested == [8.0] * len(worked)


async def test_retention_sweeps_again_only_after_a_while(
    engine: RunEngine, stores: Stores, retention: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    expire = stores.memories.expire

    async def counted(before: float, limit: int) -> int:
        nonlocal looked
        looked += 1
        return await expire(before, limit)

    monkeypatch.setattr(stores.memories, "expire", counted)
    sweeping = retention(RetentionTtls(memories=DAY))
    sweeping.start()
    async with asyncio.timeout(30):
        while not looked:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    await sweeping.stop()
    assert looked == 1


def _taking(
    seconds: float, clocks: Clocks, work: Callable[..., Awaitable[object]], worked: list[str]
) -> Callable[..., Awaitable[object]]:
    """Wrap a call so that it takes this long by the test's clocks."""

    async def slow(*args: object, **more: object) -> object:
        worked.append(str(args))
        clocks.moment += seconds
        return await work(*args, **more)

    return slow


async def test_a_clock_that_is_set_forward_is_not_believed_at_once(
    engine: RunEngine, stores: Stores, clocks: Clocks, retention: Sweep
) -> None:
    await one_of_each(engine, stores, "s1", date=clocks.date)
    sweeping = retention(EVERYTHING)
    await sweeping.sweep()
    clocks.date += 365 * DAY
    for _ in range(3):
        clocks.later(CLOCK_DISTRUST_SECONDS / 3 - 1)
        await sweeping.sweep()
        assert await kept(stores) == [1, 1, 1, 1]
    # The clock was corrected: nothing was deleted.
    clocks.date -= 365 * DAY
    await sweeping.sweep()
    assert await kept(stores) == [1, 1, 1, 1]
    clocks.date += 365 * DAY
    await sweeping.sweep()
    clocks.later(CLOCK_DISTRUST_SECONDS + 1)
    await sweeping.sweep()
    assert await kept(stores) == [0, 0, 0, 0]


async def test_a_store_that_refuses_is_swept_later(
    engine: RunEngine,
    stores: Stores,
    clocks: Clocks,
    retention: Sweep,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await run(engine, "s1")
    clocks.later(2 * DAY)
    tries = 0
    delete_all = stores.runs.delete_all

    async def moody(run_ids: Sequence[str]) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StoreUnavailable("the disk is full")
        if tries == 2:
            raise RuntimeError("a defect")
        return await delete_all(run_ids)

    monkeypatch.setattr(stores.runs, "delete_all", moody)
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.001)
    sweeping = retention(EVERYTHING)
    sweeping.start()
    async with asyncio.timeout(10):
        while await stores.runs.count(RunFilter()):
            await asyncio.sleep(0.001)
    await sweeping.stop()
    assert "the disk is full" in caplog.text
    assert "sweep failed; it is retried" in caplog.text


def _ended(run_id: str, at: float) -> RunRecord:
    return RunRecord(run_id, "a", "ada", "s", "completed", at, at, 0, 1, False, None, b"", b"")
