"""Stores of once results."""

import pytest

from portico.core.errors import RunNotFound
from portico.core.stores.deletion_steps import STEP_BYTES
from portico.core.stores.ports.stores import Commit, RunRecord, Stores


async def make_runs(stores: Stores, *run_ids: str) -> None:
    runs = [
        RunRecord(run_id, "a", "u", "s", "in_progress", 1.0, 1.0, 0, 1, True, None, b"", b"")
        for run_id in run_ids
    ]
    await stores.runs.commit(Commit(runs))


async def test_the_first_result_of_a_key_stays(stores: Stores) -> None:
    await make_runs(stores, "r1", "r2")
    assert await stores.results.get("r1", "k") is None
    await stores.results.keep("r1", "k", b"1")
    await stores.results.keep("r1", "k", b"2")
    await stores.results.keep("r1", "é", b"null")
    assert await stores.results.get("r1", "k") == b"1"
    assert await stores.results.get("r1", "é") == b"null"
    assert await stores.results.get("r2", "k") is None
    assert [await stores.results.count(run_id) for run_id in ("r1", "r2")] == [2, 0]


async def test_nothing_is_kept_of_a_run_that_is_not_there(stores: Stores) -> None:
    with pytest.raises(RunNotFound):
        await stores.results.keep("r1", "k", b"1")
    assert await stores.results.get("r1", "k") is None


async def test_all_of_some_runs_are_deleted_however_large(stores: Stores) -> None:
    await make_runs(stores, "r1", "r2", "r3")
    for run_id in ("r1", "r2", "r3"):
        for number in range(3):
            await stores.results.keep(run_id, str(number), b"x" * (STEP_BYTES // 2))
    assert await stores.results.delete_all(["r1", "r3", "nope", "r1"]) == 6
    assert [await stores.results.count(run_id) for run_id in ("r1", "r2", "r3")] == [0, 3, 0]
    assert await stores.results.delete_all([]) == 0
