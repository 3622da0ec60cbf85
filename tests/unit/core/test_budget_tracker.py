"""Budgets: use is counted for the run and its ancestors, and a used-up budget stops the right runs."""

import pytest

from portico.agent import Budget
from portico.core import budgets as module
from portico.core.budgets import BudgetLimit, BudgetTracker, BudgetUse, open_budget_tracker


class Clock:
    """Replaces the module's time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Watched(BudgetTracker):
    """Quotas that record the stopped runs and the changed records."""

    def __init__(
        self, name: str, told: list[str], budget: Budget, above: BudgetTracker | None = None
    ) -> None:
        super().__init__(budget, above=above)
        self.over = lambda: told.append(f"{name} over")
        self.changed = lambda: told.append(f"{name} changed")


def test_one_more_is_taken_while_there_is_one_left() -> None:
    told: list[str] = []
    quotas = Watched("run", told, Budget(tool_calls=2))
    assert [quotas.try_count(BudgetLimit.TOOL_CALLS) for _ in range(3)] == [True, True, False]
    assert told == ["run changed", "run changed", "run over"]
    assert (quotas.exceeded, quotas.used().tool_calls) == (BudgetLimit.TOOL_CALLS, 2)
    assert quotas.error().message == "the run's budget of 2 tool calls is used up"
    # A run is stopped once, for the first reason.
    assert not quotas.try_count(BudgetLimit.TOOL_CALLS)
    quotas.exceed_wall_time()
    assert told[3:] == []
    assert quotas.exceeded is BudgetLimit.TOOL_CALLS
    assert quotas.try_count(BudgetLimit.CHILD_RUNS)


def test_tokens_are_spent_before_they_are_counted() -> None:
    told: list[str] = []
    quotas = Watched("run", told, Budget(tokens=10))
    assert quotas.add_tokens(10)
    assert told == ["run changed"]
    assert not quotas.add_tokens(1)
    assert (quotas.used().tokens, quotas.used().exceeded) == (11, BudgetLimit.TOKENS)
    assert quotas.error().message == "the run's budget of 10 tokens is used up"
    assert BudgetTracker(Budget(tool_calls=1)).add_tokens(10**9)


def test_what_a_child_uses_is_its_parents_too_and_stops_whose_limit_it_is() -> None:
    told: list[str] = []
    parent = Watched("parent", told, Budget(tool_calls=2))
    child = Watched("child", told, Budget(tool_calls=5), parent)
    assert child.try_count(BudgetLimit.TOOL_CALLS)
    assert told == ["child changed", "parent changed"]
    assert parent.try_count(BudgetLimit.TOOL_CALLS)
    assert (child.used().tool_calls, parent.used().tool_calls) == (1, 2)
    told.clear()
    assert not child.try_count(BudgetLimit.TOOL_CALLS)
    assert told == ["child over", "parent over"]
    assert child.error().message == "the parent run's budget of 2 tool calls is used up"
    assert parent.error().message == "the run's budget of 2 tool calls is used up"


def test_a_child_that_uses_up_its_own_budget_stops_nobody_else() -> None:
    told: list[str] = []
    parent = Watched("parent", told, Budget(tool_calls=9))
    child = Watched("child", told, Budget(tool_calls=0), parent)
    assert not child.try_count(BudgetLimit.TOOL_CALLS)
    assert told == ["child over"]
    assert child.error().message == "the run's budget of 0 tool calls is used up"
    assert (parent.exceeded, parent.used().tool_calls) == (None, 0)


def test_the_clock_runs_only_while_the_run_does(clock: Clock) -> None:
    quotas = BudgetTracker(Budget(wall_time=10), BudgetUse(wall_time=1.0))
    clock.now += 100
    assert quotas.used().wall_time == 1.0
    quotas.start_clock()
    clock.now += 2
    quotas.start_clock()  # the clock runs already
    clock.now += 1
    assert (quotas.used().wall_time, quotas.recorded_use().wall_time, quotas.seconds_left) == (4.0, 1.0, 6.0)
    quotas.checkpoint_time()
    assert quotas.recorded_use().wall_time == 4.0
    clock.now += 1
    quotas.stop_clock()
    clock.now += 50
    assert (quotas.used().wall_time, quotas.recorded_use().wall_time) == (5.0, 5.0)
    quotas.checkpoint_time()
    assert quotas.recorded_use().wall_time == 5.0
    quotas.start_clock()
    clock.now += 6
    assert quotas.seconds_left == 0.0
    assert BudgetTracker(Budget(tokens=1)).seconds_left is None


def test_time_that_is_over_stops_the_run() -> None:
    told: list[str] = []
    quotas = Watched("run", told, Budget(wall_time=1.5))
    quotas.exceed_wall_time()
    assert told == ["run over"]
    assert quotas.error().message == "the run's budget of 1.5 seconds is used up"


def test_a_run_that_has_ended_is_neither_stopped_nor_written() -> None:
    told: list[str] = []
    quotas = Watched("run", told, Budget(tool_calls=1))
    quotas.end()
    assert [quotas.try_count(BudgetLimit.TOOL_CALLS) for _ in range(2)] == [True, False]
    assert told == []


def test_what_is_left_is_what_a_child_can_have(clock: Clock) -> None:
    used = BudgetUse(wall_time=2.0, tool_calls=1, tokens=50, child_runs=2)
    quotas = BudgetTracker(Budget(wall_time=10, tool_calls=4, tokens=20, child_runs=None), used)
    assert quotas.remaining() == Budget(8.0, 3, 0, None)
    assert quotas.used() == used


def test_a_run_has_the_least_of_what_is_allowed_asked_for_and_left(clock: Clock) -> None:
    assert open_budget_tracker(Budget(), None, None) is None
    assert open_budget_tracker(Budget(), Budget(), None) is None
    assert open_budget_tracker(Budget(), Budget(), BudgetTracker(Budget())) is None
    only = open_budget_tracker(Budget(tokens=5), None, None)
    assert only is not None
    assert only.budget == Budget(tokens=5)
    above = BudgetTracker(Budget(wall_time=60, tool_calls=3), BudgetUse(tool_calls=1))
    both = open_budget_tracker(Budget(tokens=5, tool_calls=9), Budget(tokens=7, child_runs=1), above)
    assert both is not None
    assert both.budget == Budget(60.0, 2, 5, 1)
    assert both.try_count(BudgetLimit.TOOL_CALLS)
    assert above.used().tool_calls == 2
    most = open_budget_tracker(Budget(tokens=5), Budget(tool_calls=1), None)
    assert most is not None
    assert most.budget == Budget(tokens=5, tool_calls=1)
