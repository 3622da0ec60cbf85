"""Readers of a live run: cancels a foreground run that has had no reader for the grace period."""

import asyncio
from collections.abc import Callable

from portico.agent import Status
from portico.core.log.live_run import LiveRun


class ReaderTracker:
    """Counts the readers of a run; calls `on_gone` when there was none for `grace_seconds`."""

    def __init__(self, run: LiveRun, grace_seconds: float, on_gone: Callable[[], None]) -> None:
        self._run = run
        self._grace_seconds = grace_seconds
        self._on_gone: Callable[[], None] | None = on_gone
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self) -> None:
        """Count a new reader."""
        self._count += 1
        self._stop()

    def remove(self) -> None:
        """Remove a reader; the last one starts the grace period."""
        self._count -= 1
        self.start_grace_period()

    def start_grace_period(self) -> None:
        """Start the grace period if the run needs a reader and has none."""
        run = self._run
        if self._count or run.start.background or run.status.terminal:
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._grace_seconds, self._missed)

    def end(self) -> None:
        """Stop: the run has ended."""
        self._stop()
        self._on_gone = None

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _missed(self) -> None:
        self._timer = None
        if self._run.status is Status.INPUT_REQUIRED and not self._run.start.ephemeral:
            # An answer may take longer than the grace period: start the period again.
            self.start_grace_period()
        elif self._on_gone is not None and not self._run.status.terminal:
            self._on_gone()
