"""Stops all other processes of the sandbox for a while, so that its files can be copied in a consistent
state.

It uses signals, which work with every backend. A process inside can have itself continued by a timer, and
then change its own files."""

import os
import signal
import time
from typing import Final

from . import tree
from .calls import Failure

_PATIENCE: Final = 0.1  # seconds to wait until all have stopped
_PAUSE: Final = 0.001


class Stillness:
    """Stops and continues processes, for one call at a time."""

    def __init__(self) -> None:
        self._before: set[int] | None = None  # processes that were stopped before, and stay stopped

    def begin(self) -> None:
        """Stops all processes; those that this one starts later run. Raises Failure("busy")."""
        if self._before is not None:
            raise Failure("busy", "the sandbox's processes are stopped for another call")
        self._before = {pid for pid, (_parent, state) in tree.parents().items() if state in "Tt"}
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                os.kill(-1, signal.SIGSTOP)
            except ProcessLookupError:
                return  # there is no other process
            own = os.getpid()
            if all(state in "TtZX" for pid, (_parent, state) in tree.parents().items() if pid != own):
                return
            if time.monotonic() > until:
                return  # one is in a system call, and stops as soon as it runs
            time.sleep(_PAUSE)

    def end(self) -> None:
        """Continues the processes, children first, so that none is still stopped when its parent checks
        it."""
        before, self._before = self._before, None
        own = os.getpid()
        for pid in sorted(tree.parents(), reverse=True):
            if before is not None and pid not in before and pid != own:
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    pass  # killed meanwhile
