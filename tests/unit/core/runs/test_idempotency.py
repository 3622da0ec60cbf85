"""Idempotency keys: the run of a repeated request, and how long keys are remembered."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from support.engine import request, text_of

from portico.agent import AgentApp
from portico.core.errors import IdempotencyConflict
from portico.core.execution.execution import Execution
from portico.core.runs import idempotency as module
from portico.core.runs.idempotency import RECENT_SECONDS, IdempotencyIndex
from portico.core.stores.ports.stores import AUTO_PREFIX, Commit, RunRecord, Stores

Engines = Callable[..., Any]


class Clock:
    """Replaces the module's time."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def started(run_id: str, key: str, at: float, text: str = "hi") -> RunRecord:
    start = request(text, idempotency_key=key)
    return RunRecord(run_id, "a", start.owner, "s", "completed", at, at, 0, 1, True, key, start.payload, b"")


async def test_a_restarted_core_knows_the_automatic_keys_of_the_window_before(
    stores: Stores, clock: Clock
) -> None:
    runs = [
        started("young", f"{AUTO_PREFIX}young", clock.now - RECENT_SECONDS + 1),
        started("old", f"{AUTO_PREFIX}old", clock.now - RECENT_SECONDS - 1),
        started("named", "order-1", clock.now),
    ]
    await stores.runs.commit(Commit(runs))
    keys = IdempotencyIndex(stores.runs)
    await keys.load()
    again = request("hi", idempotency_key=f"{AUTO_PREFIX}young")
    assert (keys.run_id_of(again), keys.find_recent(again)) == ("young", "young")
    with pytest.raises(IdempotencyConflict):
        keys.find_recent(request("other", idempotency_key=f"{AUTO_PREFIX}young"))
    assert keys.run_id_of(request("hi", idempotency_key=f"{AUTO_PREFIX}old")) == ""
    # Keys of callers are looked up in the store.
    named = request("hi", idempotency_key="order-1")
    assert (keys.run_id_of(named), keys.needs_lookup(named), await keys.find_stored(named)) == (
        "",
        True,
        "named",
    )
    with pytest.raises(IdempotencyConflict):
        await keys.find_stored(request("other", idempotency_key="order-1"))
    assert await keys.find_stored(request("hi", idempotency_key="order-2")) is None


async def test_a_key_is_remembered_for_the_window_and_no_longer(stores: Stores, clock: Clock) -> None:
    keys = IdempotencyIndex(stores.runs)
    asked = [request("hi", idempotency_key=f"{AUTO_PREFIX}{number}") for number in range(3)]
    for start, run_id in zip(asked, ("r0", "r1", "r2"), strict=True):
        keys.remember(start, run_id)
        clock.now += RECENT_SECONDS / 2
    # The first key is as old as the window when the third comes.
    assert [keys.run_id_of(start) for start in asked] == ["", "r1", "r2"]
    clock.now += RECENT_SECONDS
    keys.remember(request("hi", idempotency_key=f"{AUTO_PREFIX}new"), "r3")
    assert [keys.run_id_of(start) for start in asked] == ["", "", ""]


async def test_a_run_without_a_key_is_nobodys_repeat(stores: Stores) -> None:
    keys = IdempotencyIndex(stores.runs)
    keys.remember(request("hi"), "r0")
    assert keys.run_id_of(request("hi")) == ""
    assert not keys.needs_lookup(request("hi"))
    assert not keys._recent


async def test_only_keys_that_callers_give_and_memory_does_not_know_are_looked_up(stores: Stores) -> None:
    keys = IdempotencyIndex(stores.runs)
    for key, looked_up in (("order-1", True), (f"{AUTO_PREFIX}1", False)):
        start = request("hi", idempotency_key=key)
        assert keys.needs_lookup(start) is looked_up
        keys.remember(start, "r0")
        assert not keys.needs_lookup(start)
        keys.forget({"r1"})
        assert keys.run_id_of(start) == "r0"
        keys.forget({"r0"})
        assert keys.run_id_of(start) == ""
        assert keys.needs_lookup(start) is looked_up


async def test_the_keys_of_one_owner_mean_nothing_to_another(stores: Stores) -> None:
    keys = IdempotencyIndex(stores.runs)
    keys.remember(request("hi", idempotency_key="k", request={"user_id": "ada"}), "r0")
    for user_id, run_id in (("ada", "r0"), ("bob", "")):
        assert keys.run_id_of(request("hi", idempotency_key="k", request={"user_id": user_id})) == run_id


async def test_an_automatic_key_means_the_same_run_after_a_restart(engine_of: Engines) -> None:
    app = AgentApp("test")

    @app.query
    async def query() -> Any:
        yield "x"

    keyed = request("hi", background=True, idempotency_key=f"{AUTO_PREFIX}{time.time()}")
    engine = await engine_of(app)
    first = engine.admit_now(keyed)
    assert isinstance(first, Execution)
    await text_of(engine, first)
    await engine.stop()
    engine = await engine_of(app)
    assert await engine.admit(keyed) == first.run.run_id
