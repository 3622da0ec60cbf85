"""The readers of a live run: a foreground run is given up when nobody has read it for a while."""

import asyncio
from collections.abc import Callable

from portico.agent import Status
from portico.core.log.live_run import LiveRun


class Readers:
    """Counts them. `on_gone` is called when the run has had none for so long."""

    def __init__(self, run: LiveRun, grace_seconds: float, on_gone: Callable[[], None]) -> None:
        self._run = run
        self._grace_seconds = grace_seconds
        self._on_gone: Callable[[], None] | None = on_gone
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def enter(self) -> None:
        self._count += 1
        self._stop()

    def leave(self) -> None:
        self._count -= 1
        self.watch()

    def watch(self) -> None:
        """See to it that somebody reads the run, if it needs a reader."""
        run = self._run
        if self._count or run.start.background or run.status.terminal:
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._grace_seconds, self._missed)

    def end(self) -> None:
        """The run has ended: nobody is to be told any more."""
        self._stop()
        self._on_gone = None

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _missed(self) -> None:
        self._timer = None
        if self._run.status is Status.INPUT_REQUIRED and not self._run.start.ephemeral:
            self.watch()  # a human may take longer; ask again later
        elif self._on_gone is not None and not self._run.status.terminal:
            self._on_gone()
