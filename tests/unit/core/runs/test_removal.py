"""Removal: an item is deleted with everything that depends on it, and nothing else is."""

from collections.abc import AsyncIterator, Collection

import pytest
from support.engine import request

from portico.core.errors import SessionNotFound
from portico.core.runs.idempotency import IdempotencyIndex
from portico.core.runs.removal import Removal
from portico.core.sandboxes.core_sandboxes import CoreSandboxes
from portico.core.sandboxes.sandbox_policy import SandboxPolicy
from portico.core.stores.ports.push_configs import PushRecord
from portico.core.stores.ports.stores import Commit, NewSession, RunRecord, Stores
from portico.sandbox.spec import Spec


@pytest.fixture
async def sandboxes() -> AsyncIterator[CoreSandboxes]:
    sandboxes = CoreSandboxes(SandboxPolicy(backend="local", pool_size=0))
    yield sandboxes
    await sandboxes.close()


@pytest.fixture
def keys(stores: Stores) -> IdempotencyIndex:
    return IdempotencyIndex(stores.runs)


@pytest.fixture
def removal(stores: Stores, sandboxes: CoreSandboxes, keys: IdempotencyIndex) -> Removal:
    return Removal(stores, sandboxes, keys)


def boxed(sandboxes: CoreSandboxes) -> list[str]:
    """The sessions that have a sandbox."""
    return sorted(held.session_id for held in sandboxes.listed())


async def test_an_idle_session_goes_with_its_sandboxes(
    removal: Removal, stores: Stores, sandboxes: CoreSandboxes
) -> None:
    await stores.runs.commit(Commit(sessions=[NewSession("ada", name, 1.0) for name in ("s1", "s2")]))
    for name in ("s1", "s2"):
        await sandboxes.get_or_create_own("ada", name, Spec())
    await removal.delete_idle_session("ada", "s1", 2.0)
    assert [one.session_id for one in await stores.sessions.list("ada", None, 10)] == ["s2"]
    assert boxed(sandboxes) == ["s2"]


async def test_a_session_that_was_used_since_keeps_its_sandboxes(
    removal: Removal, stores: Stores, sandboxes: CoreSandboxes
) -> None:
    await stores.runs.commit(Commit(sessions=[NewSession("ada", "s1", 3.0)]))
    await sandboxes.get_or_create_own("ada", "s1", Spec())
    with pytest.raises(SessionNotFound):
        await removal.delete_idle_session("ada", "s1", 2.0)
    assert (await stores.sessions.get("ada", "s1")).session_id == "s1"
    assert boxed(sandboxes) == ["s1"]


async def test_a_session_in_which_nobody_said_anything_loses_its_sandboxes_too(
    removal: Removal, sandboxes: CoreSandboxes
) -> None:
    for name in ("s1", "s2"):
        await sandboxes.get_or_create_own("ada", name, Spec())
    with pytest.raises(SessionNotFound):
        await removal.delete_session("ada", "s1")
    assert boxed(sandboxes) == ["s2"]


async def test_runs_go_with_their_results_configs_and_keys(
    removal: Removal, stores: Stores, keys: IdempotencyIndex
) -> None:
    runs = [
        RunRecord(run_id, "a", "ada", "s", "completed", 1.0, 1.0, 0, 1, True, None, b"", b"")
        for run_id in ("r1", "r2", "r3")
    ]
    await stores.runs.commit(Commit(runs))
    for run_id in ("r1", "r2", "r3"):
        await stores.results.keep(run_id, "k", b"1")
        await stores.pushes.set(PushRecord(run_id, "c", "http://x", "", "", "", -1, False, 1.0, "v", ""))
    asked = [request("hi", idempotency_key=f"key of {run_id}") for run_id in ("r1", "r2", "r3")]
    for start, run_id in zip(asked, ("r1", "r2", "r3"), strict=True):
        keys.remember(start, run_id)
    told: list[Collection[str]] = []
    removal.add_deletion_listener(told.append)
    assert await removal.delete_runs(["r1", "r3"]) == (2, 2)
    assert [await stores.results.count(run_id) for run_id in ("r1", "r2", "r3")] == [0, 1, 0]
    assert [record.run_id for record in await stores.pushes.undelivered()] == ["r2"]
    assert [keys.run_id_of(start) for start in asked] == ["", "r2", ""]
    assert told == [{"r1", "r3"}]
    assert (await stores.runs.get("r2")).run_id == "r2"
