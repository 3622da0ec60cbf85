"""A single-threaded event loop, small enough for a thousand sandboxes with one each."""

import heapq
import os
import select
import signal
import time
from collections.abc import Callable

from . import linux

READ, WRITE = select.EPOLLIN, select.EPOLLOUT


def _nothing(*_: object) -> None:
    pass


class Loop:
    """Calls back when descriptors are ready, timers are due, or children have exited."""

    _poll: select.epoll

    def __init__(self) -> None:
        self._exits: tuple[int, ...] = ()  # a pipe that SIGCHLD writes to
        self._exited: Callable[[], None] = _nothing
        self._callbacks: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._fresh: set[int] = set()  # descriptors watched since this turn began
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self.after_turn: Callable[[], None] = _nothing  # runs at the end of each turn

    def open(self) -> None:
        """Creates its descriptor. Must run in the process that uses the loop."""
        self._poll = select.epoll()

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Calls back with the events while they hold. A further call replaces the events and the callback."""
        known = self._callbacks.get(fd)
        if known is None:
            self._poll.register(fd, events)
            self._fresh.add(fd)
        elif known[0] != events:
            self._poll.modify(fd, events)
        self._callbacks[fd] = events, callback

    def forget(self, fd: int) -> None:
        if self._callbacks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._order, callback))

    def on_child_exit(self, callback: Callable[[], None]) -> None:
        """Calls back after one or more children of this process have changed state."""
        self._exits = reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        linux.on_signal(signal.SIGCHLD, _nothing)
        self._exited = callback
        self.watch(reader, READ, self._drain)

    def _drain(self, _events: int) -> None:
        os.read(self._exits[0], 4096)
        self._exited()

    def close(self) -> None:
        """Closes its descriptors, in a child that does not use the loop."""
        self._poll.close()
        for fd in self._exits:
            os.close(fd)

    def turn(self) -> None:
        """Waits until something is ready or due, and calls all its callbacks."""
        timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        ready = self._poll.poll(timeout)
        self._fresh.clear()
        for fd, events in ready:
            known = self._callbacks.get(fd)
            # A descriptor watched since then may reuse the number of another, which was ready.
            if known is not None and fd not in self._fresh:
                known[1](events)
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()
        self.after_turn()
