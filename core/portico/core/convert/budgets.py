"""Converts budgets and their use, in both directions."""

from functools import lru_cache

from google.protobuf.duration_pb2 import Duration

from portico.core.budgets import BudgetLimit, BudgetUse
from portico.core.errors import InvalidArgument
from portico.model.messages import Budget
from portico.v1 import events_pb2 as pb

WALL_SECONDS = 7 * 24 * 3600
_COUNTS = ("tool_calls", "tokens", "child_runs")
_LIMITS = {
    BudgetLimit.WALL_TIME: pb.BUDGET_LIMIT_WALL_TIME,
    BudgetLimit.TOOL_CALLS: pb.BUDGET_LIMIT_TOOL_CALLS,
    BudgetLimit.TOKENS: pb.BUDGET_LIMIT_TOKENS,
    BudgetLimit.CHILD_RUNS: pb.BUDGET_LIMIT_CHILD_RUNS,
}


def check_budget(budget: pb.Budget, field: str) -> None:
    """Raises InvalidArgument for a limit out of range."""
    if budget.HasField("wall_time") and not 0 < _seconds(budget.wall_time) <= WALL_SECONDS:
        raise InvalidArgument(f"{field}.wall_time", f"must be more than 0 and at most {WALL_SECONDS} s")
    for name in _COUNTS:
        if getattr(budget, name) < 0:
            raise InvalidArgument(f"{field}.{name}", "must not be negative; leave it out for no limit")


def budget_from_proto(budget: pb.Budget) -> Budget:
    return Budget(
        wall_time=_seconds(budget.wall_time) if budget.HasField("wall_time") else None,
        tool_calls=budget.tool_calls if budget.HasField("tool_calls") else None,
        tokens=budget.tokens if budget.HasField("tokens") else None,
        child_runs=budget.child_runs if budget.HasField("child_runs") else None,
    )


def budget_to_proto(budget: Budget, target: pb.Budget) -> None:
    target.CopyFrom(_encoded(budget))


@lru_cache(maxsize=256)
def _encoded(budget: Budget) -> pb.Budget:
    """Cached: all events of a run, and all runs with the operator's limits, have equal budgets."""
    target = pb.Budget()
    if budget.wall_time is not None:
        set_duration(target.wall_time, budget.wall_time)
    for name in _COUNTS:
        if (count := getattr(budget, name)) is not None:
            setattr(target, name, count)
    return target


def use_from_proto(use: pb.BudgetUse) -> BudgetUse:
    """The use so far, without the exceeded limit: a run that exceeded one has ended and does not continue."""
    return BudgetUse(_seconds(use.wall_time), use.tool_calls, use.tokens, use.child_runs)


def use_to_proto(use: BudgetUse, target: pb.BudgetUse) -> None:
    set_duration(target.wall_time, use.wall_time)
    if use.tool_calls:
        target.tool_calls = use.tool_calls
    if use.tokens:
        target.tokens = use.tokens
    if use.child_runs:
        target.child_runs = use.child_runs
    if use.exceeded is not None:
        target.exceeded = _LIMITS[use.exceeded]


def _seconds(value: Duration) -> float:
    return value.seconds + value.nanos / 1e9


def set_duration(target: Duration, seconds: float) -> None:
    """Sets a duration in whole milliseconds; `seconds` must not be negative."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    target.seconds, target.nanos = whole, milliseconds * 1_000_000
