"""Budgets: limits of what a run, including its child runs, may use, and counters of what it has used.

A run without a budget has no quotas, and nothing is counted. A child run's use counts for its parent too. If
a budget is exceeded, both its run and the run that exceeded it are stopped.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from enum import StrEnum
from typing import NamedTuple

from portico.model.messages import Budget, Error


class BudgetLimit(StrEnum):
    """The limits of a Budget, named as its fields."""

    WALL_TIME = "wall_time"
    TOOL_CALLS = "tool_calls"
    TOKENS = "tokens"
    CHILD_RUNS = "child_runs"


_UNLIMITED = Budget()
_EXCEEDED_MESSAGES = {
    BudgetLimit.WALL_TIME: "{:g} seconds",
    BudgetLimit.TOOL_CALLS: "{} tool calls",
    BudgetLimit.TOKENS: "{} tokens",
    BudgetLimit.CHILD_RUNS: "{} child runs",
}


class BudgetUse(NamedTuple):
    """Use of a budget; `wall_time` in seconds."""

    wall_time: float = 0.0
    tool_calls: int = 0
    tokens: int = 0
    child_runs: int = 0
    exceeded: BudgetLimit | None = None


class BudgetTracker:
    """The budget of one run and its use. Belongs to the event loop.

    The run's execution sets two callbacks: `over` stops the run, `changed` has its record written.
    """

    def __init__(
        self, budget: Budget, used: BudgetUse | None = None, above: "BudgetTracker | None" = None
    ) -> None:
        used = used or BudgetUse()
        self.budget = budget
        self.exceeded: BudgetLimit | None = None
        self.over: Callable[[], None] = _no_callback
        self.changed: Callable[[], None] = _no_callback
        self._above = above
        self._whose: BudgetTracker | None = None  # the ancestor whose budget is used up, if not this one
        self._seconds = used.wall_time
        self._since: float | None = None
        self._counts = {
            BudgetLimit.TOOL_CALLS: used.tool_calls,
            BudgetLimit.TOKENS: used.tokens,
            BudgetLimit.CHILD_RUNS: used.child_runs,
        }

    def try_count(self, limit: BudgetLimit) -> bool:
        """Count one use of a limit. If none is left, stop the run whose budget is used up and this one.

        Returns:
            Whether a use was left.
        """
        if self._check(limit, 1):
            self._count(limit, 1)
            return True
        return False

    def add_tokens(self, tokens: int) -> bool:
        """Count tokens that were used already. Returns False if they exceed the budget."""
        self._count(BudgetLimit.TOKENS, tokens)
        return self._check(BudgetLimit.TOKENS, 0)

    def end(self) -> None:
        """Remove the callbacks: the run has ended."""
        self.over = self.changed = _no_callback

    def exceed_wall_time(self) -> None:
        """Stop the run: its wall time is used up."""
        self._exceed(BudgetLimit.WALL_TIME, self)

    def start_clock(self) -> None:
        """Start counting wall time; it stands still while the run is paused."""
        if self._since is None:
            self._since = time.monotonic()

    def stop_clock(self) -> None:
        """Stop counting wall time."""
        self.checkpoint_time()
        self._since = None

    def checkpoint_time(self) -> None:
        """Add the time until now to `kept`; called at each change of the run's status."""
        if self._since is not None:
            now = time.monotonic()
            self._seconds += now - self._since
            self._since = now

    @property
    def seconds_left(self) -> float | None:
        """Remaining wall time in seconds, at least 0; None without a limit."""
        most = self.budget.wall_time
        return None if most is None else max(most - self.used().wall_time, 0.0)

    def remaining(self) -> Budget:
        """The remaining budget, which bounds the budget of a child run."""
        counts = {
            limit: None if (most := getattr(self.budget, limit)) is None else max(most - count, 0)
            for limit, count in self._counts.items()
        }
        return Budget(
            self.seconds_left,
            counts[BudgetLimit.TOOL_CALLS],
            counts[BudgetLimit.TOKENS],
            counts[BudgetLimit.CHILD_RUNS],
        )

    def used(self) -> BudgetUse:
        """Use until now."""
        running = 0.0 if self._since is None else time.monotonic() - self._since
        return self._use(self._seconds + running)

    def recorded_use(self) -> BudgetUse:
        """Use until the last change of status, for the run's record; recovery adds the time since then."""
        return self._use(self._seconds)

    def error(self) -> Error:
        """The error of a run that exceeded a budget."""
        limit = self.exceeded or BudgetLimit.WALL_TIME
        budget = _EXCEEDED_MESSAGES[limit].format(getattr((self._whose or self).budget, limit))
        whose = "the run's" if self._whose is None else "the parent run's"
        return Error("budget_exceeded", f"{whose} budget of {budget} is used up")

    def _use(self, seconds: float) -> BudgetUse:
        counts = self._counts
        return BudgetUse(
            seconds,
            counts[BudgetLimit.TOOL_CALLS],
            counts[BudgetLimit.TOKENS],
            counts[BudgetLimit.CHILD_RUNS],
            self.exceeded,
        )

    def _count(self, limit: BudgetLimit, amount: int) -> None:
        for quotas in self._chain():
            quotas._counts[limit] += amount
            quotas.changed()

    def _check(self, limit: BudgetLimit, more: int) -> bool:
        over = [
            quotas
            for quotas in self._chain()
            if (most := getattr(quotas.budget, limit)) is not None and quotas._counts[limit] + more > most
        ]
        # This one first: a parent that stops first would stop this run with error `parent_ended`.
        for quotas in dict.fromkeys((self, *over)) if over else ():
            quotas._exceed(limit, over[0] if quotas is self else quotas)
        return not over

    def _exceed(self, limit: BudgetLimit, whose: "BudgetTracker") -> None:
        if self.exceeded is None:
            self.exceeded, self._whose = limit, None if whose is self else whose
            self.over()

    def _chain(self) -> Iterator["BudgetTracker"]:
        quotas: BudgetTracker | None = self
        while quotas is not None:
            yield quotas
            quotas = quotas._above


def open_budget_tracker(
    most: Budget, asked: Budget | None, above: BudgetTracker | None
) -> BudgetTracker | None:
    """Make the quotas of a new run.

    Args:
        most: The operator's limits for every run.
        asked: The requested budget.
        above: The quotas of the parent run.

    Returns:
        Quotas with the least of these limits; None if there is no limit.
    """
    if asked is None and above is None:  # as most runs are
        return None if most == _UNLIMITED else BudgetTracker(most)
    budgets = [most, asked or _UNLIMITED, _UNLIMITED if above is None else above.remaining()]
    least = {
        field.name: min(
            (value for budget in budgets if (value := getattr(budget, field.name)) is not None), default=None
        )
        for field in fields(Budget)
    }
    budget = Budget(**least)
    return None if budget == _UNLIMITED else BudgetTracker(budget, above=above)


def _no_callback() -> None:
    pass
