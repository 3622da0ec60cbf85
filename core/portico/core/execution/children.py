"""Child runs of a run: they are stopped when it stops, and end before it does."""

import asyncio
from collections.abc import Iterator
from typing import Protocol

from portico.agent.child_runs import ChildRequest, RunResult
from portico.core.errors import LimitExceeded, RunTerminal, SessionBusy
from portico.core.log.encoding import EventEncoder, RunRequest
from portico.core.log.live_run import LiveRun

LIVE_CHILDREN = 64  # most live descendants of a root run


class ChildExecution(Protocol):
    """The execution of a child run, as its parent uses it."""

    @property
    def run(self) -> LiveRun: ...

    def detach_from_parent(self) -> None:
        """Stop, because the parent has stopped."""
        ...

    async def wait_stopped(self) -> None:
        """Return when the agent has ended."""
        ...

    async def result(self) -> RunResult:
        """Return the run's result once its end is durable."""
        ...

    async def cancel(self) -> None:
        """Cancel the run; return when its end is durable."""
        ...


class StartChild(Protocol):
    """Accepts a run."""

    def __call__(self, start: RunRequest) -> ChildExecution: ...


class ChildRuns:
    """The live child runs of one run. Owned by its execution."""

    def __init__(self, run: LiveRun, above: "ChildRuns | None") -> None:
        self._run = run
        self._above = above
        self._live: set[ChildExecution] = set()
        self._kept: list[
            ChildExecution
        ] = []  # started by an earlier attempt, until this attempt starts them again
        self._count = 0  # live descendants
        self._closed = False

    @property
    def has_any(self) -> bool:
        """Whether a child run is live."""
        return bool(self._live)

    def check(self, start: RunRequest) -> None:
        """Check whether a child run may start.

        Raises:
            RunTerminal: This run has ended or is stopping.
            SessionBusy: The child run would wait in the session of this run or of an ancestor.
            LimitExceeded: The root run has too many live descendants.
        """
        if self._closed or self._run.status.terminal:
            raise RunTerminal(self._run.run_id, self._run.status.value)
        session = (start.owner, start.request.session_id)
        top = self
        for place in self._line():
            if place._run.session == session and start.busy_policy != "parallel":
                # A deadlock: the child run would wait for a run that may wait for it.
                raise SessionBusy(session[1], place._run.run_id)
            top = place
        if top._count >= LIVE_CHILDREN:
            raise LimitExceeded("live_child_runs", f"{top._count} child runs are live; wait until some end")

    def add(self, child: ChildExecution) -> None:
        """Count a child run that has started."""
        self._live.add(child)
        self._add(1)

    def add_recovered(self, child: ChildExecution) -> None:
        """Add a paused child run that an earlier attempt started."""
        self.add(child)
        self._kept.append(child)

    def find_repeat(self, start: RunRequest) -> ChildExecution | None:
        """Take the child run that an earlier attempt started with the same request; None if there is none."""
        for child in self._kept:
            if child.run.start.digest == start.digest:
                self._kept.remove(child)
                return child
        return None

    def remove(self, child: ChildExecution) -> None:
        """Remove a child run that has ended."""
        if child in self._live:
            self._live.discard(child)
            self._add(-1)

    def stop(self) -> None:
        """Refuse more child runs and stop the live ones."""
        self._closed = True
        for child in tuple(self._live):
            child.detach_from_parent()

    async def wait_all_stopped(self) -> None:
        """Stop the child runs; return when all have ended."""
        self.stop()
        await asyncio.gather(*(child.wait_stopped() for child in tuple(self._live)))

    def _add(self, count: int) -> None:
        for place in self._line():
            place._count += count

    def _line(self) -> "Iterator[ChildRuns]":
        """This run's child runs and those of its ancestors, upwards."""
        place: ChildRuns | None = self
        while place is not None:
            yield place
            place = place._above


class ChildRunStarter:
    """ChildStarter of one run: implements `context.start_run`."""

    def __init__(self, run: LiveRun, encoder: EventEncoder, launch: StartChild, children: ChildRuns) -> None:
        self._run = run
        self._encoder = encoder
        self._launch = launch
        self._children = children

    async def __call__(self, request: ChildRequest) -> "ChildRunHandle":
        start = self._encoder.child_request(request, self._run.run_id, self._run.start)
        if (kept := self._children.find_repeat(start)) is not None:
            return ChildRunHandle(kept)
        try:
            child = self._launch(start)
        except LimitExceeded:
            quotas = self._run.budget_tracker
            if quotas is not None and quotas.exceeded is not None:
                raise asyncio.CancelledError from None  # the run itself is stopping
            raise
        try:
            # The agent gets the child run's id once the run would survive a crash.
            await child.run.wait_published(0)
        except asyncio.CancelledError:
            child.detach_from_parent()
            raise
        return ChildRunHandle(child)


class ChildRunHandle:
    """ChildRun of a live execution."""

    def __init__(self, child: ChildExecution) -> None:
        self._child = child

    @property
    def run_id(self) -> str:
        return self._child.run.run_id

    async def result(self) -> RunResult:
        return await self._child.result()

    async def cancel(self) -> None:
        await self._child.cancel()
