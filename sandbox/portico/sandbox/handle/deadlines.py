"""Deadlines of calls. Most calls end long before theirs, so one timer of the event loop serves a channel."""

import asyncio
from typing import Final, Protocol

# Seconds between the interrupt and the kill of a cell, which loses its variables. Generous, because on a busy
# machine a kernel may wait long for CPU time.
GRACE: Final = 2.0


class Cancellable(Protocol):
    """A call, as far as its deadline needs it."""

    deadlines: "Deadlines"
    late: float | None  # the deadline in seconds that cancelled it

    @property
    def ended(self) -> bool: ...

    def cancel(self, grace: float) -> None: ...


class Deadline:
    """Cancels a call when its time is up."""

    def __init__(self, call: Cancellable, seconds: float, grace: float = GRACE) -> None:
        self.seconds = seconds
        self.passed = False
        self._call, self._grace = call, grace
        self._deadlines = call.deadlines
        self._deadlines.add(self)

    def expire(self) -> None:
        if not self._call.ended:
            self.passed = True
            self._call.late = self.seconds
            self._call.cancel(self._grace)

    def stop(self) -> None:
        self._deadlines.remove(self)


class Deadlines:
    """The deadlines of one channel. One timer is set for the earliest and set again after it fires."""

    def __init__(self) -> None:
        self._due: dict[Deadline, float] = {}  # by the loop's clock
        self._timer: asyncio.TimerHandle | None = None

    def add(self, deadline: Deadline) -> None:
        loop = asyncio.get_running_loop()
        when = self._due[deadline] = loop.time() + deadline.seconds
        if self._timer is None:
            self._timer = loop.call_at(when, self._look)
        elif when < self._timer.when():
            self._timer.cancel()
            self._timer = loop.call_at(when, self._look)

    def remove(self, deadline: Deadline) -> None:
        self._due.pop(deadline, None)

    def close(self) -> None:
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now, self._timer = loop.time(), None
        for deadline in [deadline for deadline, when in self._due.items() if when <= now]:
            del self._due[deadline]
            deadline.expire()
        if self._due and self._timer is None:
            self._timer = loop.call_at(min(self._due.values()), self._look)
