"""Stops all other processes of the sandbox for a while, so that its files are as they were at one moment.

By signals, which every backend has. A process inside can have itself continued by a timer; then it does to
its own files what it likes."""

import os
import signal
import time
from typing import Final

from . import tree
from .calls import Failure

_PATIENCE: Final = 0.1  # seconds until all have to stand
_PAUSE: Final = 0.001


class Stillness:
    """One call at a time may have it."""

    def __init__(self) -> None:
        self._before: set[int] | None = None  # processes that were stopped already, and stay so

    def begin(self) -> None:
        """Processes that this one starts from now on run. Raises Failure("busy")."""
        if self._before is not None:
            raise Failure("busy", "the sandbox stands still for another call")
        self._before = {pid for pid, (_parent, state) in tree.parents().items() if state in "Tt"}
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                os.kill(-1, signal.SIGSTOP)
            except ProcessLookupError:
                return  # there is nothing else
            own = os.getpid()
            if all(state in "TtZX" for pid, (_parent, state) in tree.parents().items() if pid != own):
                return
            if time.monotonic() > until:
                return  # one waits for the kernel, and stops as soon as it runs
            time.sleep(_PAUSE)

    def end(self) -> None:
        """Children first, so that none is still stopped when its parent looks at it."""
        before, self._before = self._before, None
        own = os.getpid()
        for pid in sorted(tree.parents(), reverse=True):
            if before is not None and pid not in before and pid != own:
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    pass  # it has been killed meanwhile
