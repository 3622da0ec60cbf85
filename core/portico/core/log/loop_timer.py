"""A tick at each millisecond while the core is busy: timers that are on time.

The event loop (libuv) counts whole milliseconds and sleeps whole milliseconds from wherever in one it is.
While hundreds of agents pace themselves with short sleeps it wakes at some moment, finds nothing due, sleeps
another millisecond and is past the one that was: sleeps end up to a millisecond late, and an agent that
sleeps again has lost that for good. A timer of the kernel's that fires where the loop's milliseconds begin
wakes it in time. An idle core has none.
"""

import asyncio
import ctypes
import logging
import os
import struct
import time

log = logging.getLogger(__name__)

BUSY_COMMITS = 20  # within WINDOW_SECONDS: with that many it ticks, after a window with fewer it stops
WINDOW_SECONDS = 0.1
TICK_NS = 1_000_000
# Of Linux's timerfd_settime, which Python itself has from 3.13 on.
_TFD_TIMER_ABSTIME = 1


class Ticks:
    """Wakes the running loop at each millisecond of the monotonic clock while there is much to commit.

    Owned by the committer, who tells of each commit.
    """

    def __init__(self) -> None:
        self.ticking = False
        self._timer: int | None = None
        self._commits = 0
        self._since = time.monotonic()

    def start(self) -> None:
        """Without timers of that kind, as on other systems than Linux, there will be no ticks."""
        try:
            self._timer = _create()
        except (OSError, AttributeError) as error:
            log.info("agents' timers may be a millisecond late: %s", error)
        else:
            asyncio.get_running_loop().add_reader(self._timer, self._tick, self._timer)

    def stop(self) -> None:
        if self._timer is not None:
            asyncio.get_running_loop().remove_reader(self._timer)
            os.close(self._timer)
            self._timer = None
            self.ticking = False

    def commit(self) -> None:
        """There was one."""
        self._commits += 1
        if self._commits == BUSY_COMMITS:
            now = time.monotonic()
            if now - self._since <= WINDOW_SECONDS:
                self._set(True)
            self._commits = 0
            self._since = now

    def _tick(self, timer: int) -> None:
        os.read(timer, 8)  # how often it fired; unread it would wake the loop on and on
        if time.monotonic() - self._since > WINDOW_SECONDS:
            self._set(False)

    def _set(self, ticking: bool) -> None:
        if self._timer is not None and ticking is not self.ticking:
            _arm(self._timer, TICK_NS if ticking else 0)
            self.ticking = ticking


def _create() -> int:
    """A timer of the kernel's, not armed. Raises OSError, and AttributeError where there are none."""
    timer: int = ctypes.CDLL(None, use_errno=True).timerfd_create(
        time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC
    )
    if timer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return timer


def _arm(timer: int, every_ns: int) -> None:
    """Fire at each multiple of that of the monotonic clock; never for 0."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    first = now - now % every_ns + every_ns if every_ns else 0
    # struct itimerspec: the interval and the first time, each in seconds and nanoseconds.
    times = struct.pack("@llll", *divmod(every_ns, 10**9), *divmod(first, 10**9))
    if ctypes.CDLL(None, use_errno=True).timerfd_settime(timer, _TFD_TIMER_ABSTIME, times, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
