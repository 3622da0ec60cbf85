"""Loop timer: wakes the event loop at each millisecond while the core is busy, so that timers fire on time.

The event loop (libuv) counts and sleeps whole milliseconds, from an arbitrary moment within one. While
hundreds of agents pace themselves with short sleeps, it wakes at some moment, finds no timer due, sleeps
another millisecond and passes the one that was due: sleeps end up to a millisecond late, and an agent that
sleeps again never regains that time. A kernel timer that fires where the loop's milliseconds begin wakes it
in time. An idle core has no such timer.
"""

import asyncio
import ctypes
import logging
import os
import struct
import time

log = logging.getLogger(__name__)

BUSY_COMMITS = 20  # so many commits within WINDOW_SECONDS start the timer; fewer stop it
WINDOW_SECONDS = 0.1
TICK_NS = 1_000_000
# A constant of Linux's timerfd_settime, which Python itself has from 3.13 on.
_TFD_TIMER_ABSTIME = 1


class LoopTimer:
    """Wakes the running loop at each millisecond of the monotonic clock while commits are frequent.

    Owned by the committer, which calls `commit` for each commit.
    """

    def __init__(self) -> None:
        self.ticking = False
        self._timer: int | None = None
        self._commits = 0
        self._since = time.monotonic()

    def start(self) -> None:
        """Create the timer. On systems without timerfd (all but Linux) there are no ticks."""
        try:
            self._timer = _create()
        except (OSError, AttributeError) as error:
            log.info("timers of agents may fire up to 1 ms late, timerfd is not available: %s", error)
        else:
            asyncio.get_running_loop().add_reader(self._timer, self._tick, self._timer)

    def stop(self) -> None:
        if self._timer is not None:
            asyncio.get_running_loop().remove_reader(self._timer)
            os.close(self._timer)
            self._timer = None
            self.ticking = False

    def count_commit(self) -> None:
        """Count a commit."""
        self._commits += 1
        if self._commits == BUSY_COMMITS:
            now = time.monotonic()
            if now - self._since <= WINDOW_SECONDS:
                self._set(True)
            self._commits = 0
            self._since = now

    def _tick(self, timer: int) -> None:
        os.read(timer, 8)  # the number of expirations; unread it would wake the loop again and again
        if time.monotonic() - self._since > WINDOW_SECONDS:
            self._set(False)

    def _set(self, ticking: bool) -> None:
        if self._timer is not None and ticking is not self.ticking:
            _arm(self._timer, TICK_NS if ticking else 0)
            self.ticking = ticking


def _create() -> int:
    """Create a kernel timer, not armed. Raises OSError, and AttributeError on systems without timerfd."""
    timer: int = ctypes.CDLL(None, use_errno=True).timerfd_create(
        time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC
    )
    if timer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return timer


def _arm(timer: int, every_ns: int) -> None:
    """Fire at each multiple of `every_ns` of the monotonic clock; 0 disarms the timer."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    first = now - now % every_ns + every_ns if every_ns else 0
    # struct itimerspec: the interval and the first time, each in seconds and nanoseconds.
    times = struct.pack("@llll", *divmod(every_ns, 10**9), *divmod(first, 10**9))
    if ctypes.CDLL(None, use_errno=True).timerfd_settime(timer, _TFD_TIMER_ABSTIME, times, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
