"""Fair scheduler: limits of runs, and the order of queued runs."""

from collections import Counter

import pytest

from portico.core.errors import LimitExceeded
from portico.core.runs.scheduler import FairScheduler, RunLimits
from portico.model.identity import owner_key, tenant_of


class Run:
    def __init__(self, owner: str) -> None:
        self.owner = owner


class Stage:
    """A scheduler, and the runs that have begun."""

    def __init__(self, **limits: int) -> None:
        self.begun: list[Run] = []
        self.turns: FairScheduler[Run] = FairScheduler(RunLimits(**limits), self.begun.append)

    def come(self, tenant: str, user: str = "ada") -> Run:
        run = Run(owner_key(tenant, user))
        self.turns.check_queue_limit(run.owner)
        self.turns.register(run.owner)
        self.turns.start_or_queue(run)
        return run


def test_without_limits_everybody_begins_at_once() -> None:
    stage = Stage()
    runs = [stage.come("acme") for _ in range(1000)]
    assert stage.begun == runs


def test_ten_thousand_queued_delay_anothers_first_by_one() -> None:
    stage = Stage(running=2)
    for number in range(10_000):
        stage.come("acme", f"user{number % 7}")
    first = stage.come("globex")
    stage.turns.release(stage.begun[0])
    stage.turns.release(stage.begun[1])
    assert first in stage.begun[:4]
    # From here on the tenants alternate.
    for _ in range(20):
        stage.come("globex")
    before = len(stage.begun)
    for run in stage.begun[2:22]:
        stage.turns.release(run)
    shares = Counter(tenant_of(run.owner) for run in stage.begun[before:])
    assert abs(shares["acme"] - shares["globex"]) <= 1


def test_users_of_a_tenant_take_turns_too() -> None:
    stage = Stage(running_per_tenant=1)
    for _ in range(50):
        stage.come("acme", "ada")
    bob = stage.come("acme", "bob")
    other = stage.come("globex")
    assert stage.begun[1:] == [other]
    stage.turns.release(stage.begun[0])
    stage.turns.release(stage.begun[2])
    assert bob in stage.begun[2:4]


def test_a_user_at_the_limit_holds_up_nobody_else() -> None:
    stage = Stage(running=3, running_per_user=1)
    for _ in range(3):
        stage.come("acme", "ada")
    bob, carol = stage.come("acme", "bob"), stage.come("globex", "carol")
    assert stage.begun[1:] == [bob, carol]
    stage.turns.release(stage.begun[0])
    assert [run.owner for run in stage.begun].count("tenant:acme:ada") == 2


def test_too_many_queued_are_refused_and_told_when_to_come_again() -> None:
    stage = Stage(running_per_user=1, queued_per_user=2, queued_per_tenant=3)
    for _ in range(3):
        stage.come("acme")
    with pytest.raises(LimitExceeded, match="2 runs queued") as caught:
        stage.come("acme")
    assert caught.value.metadata == {"limit": "user_queued_runs", "retry_after_seconds": "5"}
    stage.come("acme", "bob")
    stage.come("acme", "bob")
    with pytest.raises(LimitExceeded, match="the tenant has 3"):
        stage.come("acme", "bob")
    stage.come("globex")
    stage.turns.release(stage.begun[0])
    stage.come("acme")


def test_who_leaves_the_queue_takes_no_turn_and_nothing_is_remembered() -> None:
    stage = Stage(running=1)
    running, waiting, last = stage.come("acme"), stage.come("acme"), stage.come("globex")
    stage.turns.release(waiting)
    stage.turns.release(running)
    assert stage.begun == [running, last]
    stage.turns.release(last)
    assert not stage.turns._queues
    assert not stage.turns._accepted
    assert not stage.turns._running
    assert not stage.turns._executing


def test_who_asks_is_told_whether_it_has_begun() -> None:
    stage = Stage(running=1)
    first, second = Run("ada"), Run("bob")
    for run, begins in ((first, True), (second, False)):
        stage.turns.register(run.owner)
        assert stage.turns.start_or_queue(run) is begins
    assert stage.begun == [first]


def test_who_had_its_turn_in_an_earlier_process_keeps_it() -> None:
    stage = Stage(running=1)
    kept = Run(owner_key("acme", "ada"))
    stage.turns.register(kept.owner)
    stage.turns.register_running(kept)
    waiting = stage.come("acme", "bob")
    assert stage.begun == []
    stage.turns.release(kept)
    assert stage.begun == [waiting]


def test_who_leaves_before_it_has_asked_takes_nothing_along() -> None:
    stage = Stage(running=1, queued_per_user=1)
    running = stage.come("acme", "ada")
    waiting = stage.come("acme", "bob")
    for user in ("bob", "carol"):  # the queue has a run of bob and none of carol
        silent = Run(owner_key("acme", user))
        stage.turns.register(silent.owner)
        stage.turns.release(silent)
    elsewhere = Run(owner_key("globex", "eve"))
    stage.turns.register(elsewhere.owner)
    stage.turns.release(elsewhere)
    stage.turns.release(running)
    assert stage.begun == [running, waiting]
