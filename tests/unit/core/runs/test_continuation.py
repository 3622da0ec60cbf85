"""Continuation: the session of a run that continues another is that run's session or a copy."""

import asyncio
from collections.abc import Callable

import pytest
from support.engine import request

from portico.agent import Status
from portico.core.errors import RunNotFound, SessionNotFound
from portico.core.log.live_run import LiveRun
from portico.core.runs.continuation import Continuations
from portico.core.runs.session_queue import SessionQueue
from portico.core.stores.ports.stores import Commit, NewMessage, NewSession, RunRecord, Stores

Place = tuple[str, str, bool]


class Nobody:
    """A committer that commits nothing."""

    def add(self, run: LiveRun) -> None:
        pass


class World:
    """Runs r1 and r2 of ada that ended in session s, with one message each; live runs are added."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.lanes = SessionQueue()
        self.live: dict[str, LiveRun] = {}
        self.continuations = Continuations(stores, self.lanes, self.live.get)

    async def fill(self, *run_ids: str) -> None:
        runs = [
            RunRecord(run_id, "a", "ada", "s", "completed", 1.0, 1.0, 0, 1, True, None, b"", b"")
            for run_id in run_ids
        ]
        said = [
            NewMessage("ada", "s", f"msg of {run_id}", "user", run_id, run_id.encode(), 1.0, run_id)
            for run_id in run_ids
        ]
        await self.stores.runs.commit(Commit(runs, messages=said, sessions=[NewSession("ada", "s", 1.0)]))

    def begin(self, run_id: str, *, ephemeral: str = "") -> LiveRun:
        start = request("hi", request={"user_id": "ada", "session_id": "s"}, ephemeral=bool(ephemeral))
        run = self.live[run_id] = LiveRun(run_id, start, Nobody(), created_at=1.0)
        self.lanes.enter(run)
        return run

    async def after(self, run_id: str, *, apart: bool = False, before: str = "") -> Place:
        async with self.continuations.reserve_session(run_id, apart=apart, before=before) as place:
            return place

    async def texts(self, session_id: str) -> list[str]:
        found = await self.stores.sessions.messages("ada", session_id, None, 99, False)
        return [message.payload.decode() for message in found]


@pytest.fixture
def world(stores: Stores) -> World:
    return World(stores)


async def waits(task: "asyncio.Task[Place]") -> bool:
    for _ in range(20):
        await asyncio.sleep(0)
    return not task.done()


def settle(run: LiveRun, status: Status) -> None:
    run.append(b"event")
    chunks, _, _ = run.take_pending()
    run.publish(chunks, status, None, 1.0)


async def test_the_last_run_of_a_session_is_continued_there(world: World) -> None:
    await world.fill("r1", "r2")
    assert await world.after("r2") == ("ada", "s", False)


async def test_one_that_others_came_after_is_continued_in_a_copy_up_to_it(world: World) -> None:
    await world.fill("r1", "r2")
    user_id, session_id, own = await world.after("r1")
    assert (user_id, own) == ("ada", True)
    assert session_id != "s"
    assert await world.texts(session_id) == ["r1"]
    assert await world.texts("s") == ["r1", "r2"]


async def test_who_wants_a_session_apart_gets_one(world: World) -> None:
    await world.fill("r1", "r2")
    places = [await world.after("r2", apart=True), await world.after("r2", apart=True, before="msg of r2")]
    assert [own for _, _, own in places] == [True, True]
    assert [await world.texts(session_id) for _, session_id, _ in places] == [["r1", "r2"], ["r1"]]
    assert len({"s", *(session_id for _, session_id, _ in places)}) == 3


async def test_what_is_not_there_or_not_kept_is_not_continued(world: World, stores: Stores) -> None:
    await world.fill("r1")
    hidden = RunRecord(
        "r2", "a", "ada", "s", "completed", 1.0, 1.0, 0, 1, True, None, b"", b"", b"", ephemeral="run"
    )
    await stores.runs.commit(Commit([hidden]))
    world.begin("r3", ephemeral="run").start = request("hi", request={"user_id": "ada"}, ephemeral=True)
    for run_id in ("nobody", "r2", "r3"):
        with pytest.raises(RunNotFound):
            await world.after(run_id)
    await stores.sessions.delete("ada", "s")
    with pytest.raises(SessionNotFound):
        await world.after("r1")


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.INPUT_REQUIRED])
async def test_a_copy_that_ends_with_a_run_waits_for_what_that_says(world: World, status: Status) -> None:
    await world.fill("r1")
    run = world.begin("r1")
    placing = asyncio.create_task(world.after("r1", apart=True))
    assert await waits(placing)
    settle(run, Status.IN_PROGRESS)
    assert await waits(placing)
    before = len(run._subscribers)
    settle(run, status)
    assert (await asyncio.wait_for(placing, 30))[2]
    assert len(run._subscribers) < before
    # A copy that ends before a message does not need the run's remaining output.
    other = world.begin("r9")
    world.live["r1"] = other
    assert (await asyncio.wait_for(world.after("r1", apart=True, before="msg of r1"), 30))[2]


async def test_a_run_that_works_alone_is_continued_at_once_in_its_session(world: World) -> None:
    await world.fill("r1")
    run = world.begin("r1")
    assert await asyncio.wait_for(world.after("r1"), 30) == ("ada", "s", False)
    world.begin("r2")
    placing = asyncio.create_task(world.after("r1"))
    assert await waits(placing)
    settle(run, Status.COMPLETED)
    assert (await asyncio.wait_for(placing, 30))[2]


async def test_a_run_that_comes_while_the_store_is_asked_goes_first(
    world: World, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.fill("r1")
    fork: Callable[..., object] = stores.sessions.fork
    asked: list[bool] = []

    async def slow(*args: object, always: bool, **more: object) -> object:
        asked.append(always)
        copied = await fork(*args, always=always, **more)  # type: ignore[misc]
        if len(asked) == 1:
            world.begin("r2")
        return copied

    monkeypatch.setattr(stores.sessions, "fork", slow)
    run = world.begin("r1")
    placing = asyncio.create_task(world.after("r1"))
    # The copy has the run's remaining output.
    assert await waits(placing)
    assert asked == [False]
    settle(run, Status.COMPLETED)
    user_id, session_id, own = await asyncio.wait_for(placing, 30)
    assert (user_id, own, asked) == ("ada", True, [False, True])
    assert session_id != "s"
    assert await world.texts(session_id) == ["r1"]


async def test_runs_that_continue_the_same_one_are_placed_one_after_the_other(world: World) -> None:
    await world.fill("r1")
    async with world.continuations.reserve_session("r1", apart=False) as first:
        second = asyncio.create_task(world.after("r1"))
        assert await waits(second)
        world.begin("r2")
    assert first == ("ada", "s", False)
    assert (await asyncio.wait_for(second, 30))[2]
