"""Ephemeral runs: they are deleted some time after their end with their own data, and no other data is."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from portico.core.errors import RunNotFound, SessionNotFound, StoreUnavailable
from portico.core.runs import ephemeral as module
from portico.core.runs.ephemeral import EphemeralCleaner
from portico.core.runs.idempotency import IdempotencyIndex
from portico.core.runs.removal import Removal
from portico.core.sandboxes.core_sandboxes import CoreSandboxes
from portico.core.sandboxes.sandbox_errors import SandboxUnavailable
from portico.core.stores.ports.stores import Commit, MemoryRecord, NewSession, RunRecord, Stores


@pytest.fixture
def sandboxes() -> CoreSandboxes:
    return CoreSandboxes()


@pytest.fixture
async def sweeping(
    stores: Stores, sandboxes: CoreSandboxes, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EphemeralCleaner]:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.02, raising=False)
    ephemerals = EphemeralCleaner(stores, Removal(stores, sandboxes, IdempotencyIndex(stores.runs)), 0.02)
    yield ephemerals
    await ephemerals.stop()


async def ended(stores: Stores, run_id: str, session_id: str, ephemeral: str) -> None:
    """An ended run of ada's, with a session, a state and a memory."""
    record = RunRecord(
        run_id, "a", "ada", session_id, "completed", 1.0, 1.0, 0, 1, True, None, b"", b"", b"", ephemeral
    )
    await stores.runs.commit(Commit([record], sessions=[NewSession("ada", session_id, 1.0)]))
    await stores.states.save("ada", session_id, None, "{}", None)
    await stores.memories.add([MemoryRecord(f"mem-{session_id}", "ada", session_id, "penguin", 1.0)])


async def gone(stores: Stores, run_id: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await stores.runs.get(run_id)
            except RunNotFound:
                return
            await asyncio.sleep(0.005)


async def kept(stores: Stores) -> tuple[list[str], list[str], list[str]]:
    """The sessions, and those that have a state and a memory."""
    return (
        sorted(one.session_id for one in await stores.sessions.list("ada", None, 10)),
        sorted(one.session_id for one in await stores.states.list("ada", None, None, 10)),
        sorted(one.session_id for one in await stores.memories.list("ada", None, None, 10)),
    )


async def test_what_was_kept_for_a_run_alone_goes_with_it(stores: Stores, sweeping: EphemeralCleaner) -> None:
    for run_id, session_id in (("r1", "own"), ("r2", "given"), ("r3", "another")):
        await ended(stores, run_id, session_id, "session" if session_id == "own" else "run")
    sweeping.schedule("r1", ("ada", "own"))
    sweeping.schedule("r2", None)
    await gone(stores, "r1")
    await gone(stores, "r2")
    assert await kept(stores) == (["another", "given"],) * 3
    assert (await stores.runs.get("r3")).run_id == "r3"
    # Runs that end after all others were deleted are deleted too.
    sweeping.schedule("r3", ("ada", "another"))
    await gone(stores, "r3")
    assert await kept(stores) == (["given"],) * 3


async def test_a_session_that_somebody_deleted_keeps_no_run(
    stores: Stores, sweeping: EphemeralCleaner
) -> None:
    await ended(stores, "r1", "own", "session")
    await stores.sessions.delete("ada", "own")
    sweeping.schedule("r1", ("ada", "own"))
    await gone(stores, "r1")
    assert await kept(stores) == ([], [], [])


async def test_a_run_stays_while_its_readers_may_come_back(stores: Stores) -> None:
    removal = Removal(stores, CoreSandboxes(), IdempotencyIndex(stores.runs))
    sweeping = EphemeralCleaner(stores, removal, 600.0)
    await ended(stores, "r1", "own", "session")
    sweeping.schedule("r1", ("ada", "own"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert (await stores.runs.get("r1")).run_id == "r1"
    await sweeping.stop()
    assert await kept(stores) == (["own"],) * 3


async def test_what_an_earlier_process_left_over_goes_too(stores: Stores, sweeping: EphemeralCleaner) -> None:
    for run_id, session_id, ephemeral in (
        ("r1", "own", "session"),
        ("r2", "given", "run"),
        ("r3", "another", ""),
    ):
        await ended(stores, run_id, session_id, ephemeral)
    await sweeping.start()
    await gone(stores, "r1")
    await gone(stores, "r2")
    assert await kept(stores) == (["another", "given"],) * 3
    assert (await stores.runs.get("r3")).run_id == "r3"


async def test_what_the_store_does_not_remove_is_tried_again(
    stores: Stores,
    sweeping: EphemeralCleaner,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    delete_all, tries = stores.runs.delete_all, 0

    async def moody(run_ids: Sequence[str]) -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StoreUnavailable("the disk is full")
        return await delete_all(run_ids)

    monkeypatch.setattr(stores.runs, "delete_all", moody)
    await ended(stores, "r1", "own", "session")
    await ended(stores, "r2", "other", "session")
    sweeping.schedule("r1", ("ada", "own"))
    sweeping.schedule("r2", ("ada", "other"))
    await gone(stores, "r1")
    await gone(stores, "r2")
    assert tries == 4
    assert "the disk is full" in caplog.text
    with pytest.raises(SessionNotFound):
        await stores.sessions.get("ada", "own")


async def test_what_can_not_be_removed_holds_up_no_other_and_is_tried_again(
    stores: Stores,
    sweeping: EphemeralCleaner,
    sandboxes: CoreSandboxes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    released: list[str] = []

    async def moody(user_id: str, session_id: str) -> None:
        released.append(session_id)
        if released.count("own") < 3 and session_id == "own":
            raise SandboxUnavailable("the engine of containers is away")

    monkeypatch.setattr(sandboxes, "release", moody)
    await ended(stores, "r1", "own", "session")
    await ended(stores, "r2", "other", "session")
    sweeping.schedule("r1", ("ada", "own"))
    sweeping.schedule("r2", ("ada", "other"))
    await gone(stores, "r1")
    await gone(stores, "r2")
    assert released == ["own", "other", "own", "own"]
    assert "run r1" in caplog.text
    assert "is away" in caplog.text
    assert await kept(stores) == ([], [], [])


async def test_once_it_has_stopped_nothing_is_removed_any_more(
    stores: Stores, sweeping: EphemeralCleaner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sweeping.stop()  # there is no task to stop yet
    begun, cut = asyncio.Event(), False

    async def slow(run_ids: Sequence[str]) -> int:
        nonlocal cut
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0)
            cut = True
        return 0

    monkeypatch.setattr(stores.runs, "delete_all", slow)
    await ended(stores, "r1", "own", "session")
    sweeping.schedule("r1", ("ada", "own"))
    await asyncio.wait_for(begun.wait(), 30)
    await sweeping.stop()
    assert cut
