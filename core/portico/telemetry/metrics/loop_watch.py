"""Watches an event loop from a thread: reports code that blocks it, and measures how late its timers are.

While a coroutine computes, or sleeps without `await`, its process serves no other request. A timer on the
loop fires a few times per second, and the thread checks that it does.
"""

import asyncio
import gc
import logging
import sys
import threading
import time
import traceback
from contextvars import Context
from types import FrameType

from portico.telemetry.log import log_ids
from portico.telemetry.metrics import meters

log = logging.getLogger(__name__)

BEAT_SECONDS = 0.25
BLOCKED_SECONDS = 1.0  # a longer block is reported, again after twice this time, and so on
QUIET_SECONDS = (
    10.0,
    600.0,
)  # short blocks of the same agent are not reported again for this time, which doubles
LONG = 8.0  # times BLOCKED_SECONDS: such a long block is always reported
LOOPS = (
    "asyncio.base_events",
    "asyncio.runners",
    "selectors",
)  # modules of an idle loop; uvloop has no frames
FRAMES = 24  # innermost frames of a reported stack
COMPUTING = (
    0.5  # share of BLOCKED_SECONDS: with as much CPU time of the loop's thread the process was not stopped
)


class LoopWatch:
    """Watches the running loop between `start` and `stop`, which must be called on it."""

    def __init__(self) -> None:
        self._beats = 0
        self._due = 0.0
        self._told = False  # whether the current block has been reported
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="portico-loop-watch", daemon=True)
        self._quiet: dict[str, tuple[float, float]] = {}  # by agent: end and length of the quiet time
        meter = meters.meter()
        self._lag = (
            None
            if meter is None
            else meters.seconds(
                meter, "portico.event_loop.lag", "Delay of a timer that the event loop calls every 250 ms."
            )
        )

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._plan()
        self._thread.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._stopping.set()
            self._thread.join()

    def _plan(self) -> None:
        self._due = time.monotonic() + BEAT_SECONDS
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        if self._lag is not None:
            self._lag.record(max(time.monotonic() - self._due, 0.0))
        self._beats += 1
        self._plan()

    def _watch(self) -> None:
        seen, blocked, suspect = -1, 0.0, None
        next_report = BLOCKED_SECONDS
        last, computed = time.monotonic(), self._computed()
        while not self._stopping.wait(BEAT_SECONDS):
            if self._loop.is_closed():
                return  # the loop's thread has ended without `stop`; its CPU time can't be read
            now, by_now, task = time.monotonic(), self._computed(), self._task()
            # Time in which this thread did not run counts only if the loop's thread used CPU meanwhile:
            # native code may let no other thread run. Otherwise the whole process was stopped.
            alone = min(now - last, now - self._due) >= BLOCKED_SECONDS
            alone = alone and by_now - computed >= COMPUTING * BLOCKED_SECONDS
            passed, last, computed = now - last if alone else BEAT_SECONDS, now, by_now
            new = self._beats != seen
            if new and not alone:
                if self._told:
                    log.warning("the event loop continues after about %.1f s", blocked)
                self._told = False
                seen, blocked, suspect, next_report = self._beats, 0.0, task, BLOCKED_SECONDS
            elif alone or (task is suspect and not self._idle(task)):
                if new:
                    seen, blocked, next_report = self._beats, 0.0, BLOCKED_SECONDS
                blocked, suspect = blocked + passed, task
                if blocked >= next_report:
                    self._report(blocked, task)
                    while next_report <= blocked:
                        next_report *= 2
            else:
                # Several tasks took turns: the loop is busy, but no single task blocks it.
                blocked, suspect, next_report = 0.0, task, BLOCKED_SECONDS

    def _computed(self) -> float:
        """CPU time of the loop's thread; 0 on platforms that can't report that of another thread."""
        if not hasattr(time, "pthread_getcpuclockid"):
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(self._loop_thread))

    def _idle(self, task: "asyncio.Task[object] | None") -> bool:
        """Whether the loop is idle, and late only because other processes use the CPU."""
        frame = sys._current_frames().get(self._loop_thread)
        return task is None and frame is not None and frame.f_globals.get("__name__") in LOOPS

    def _task(self) -> "asyncio.Task[object] | None":
        """The task that the loop is executing."""
        return asyncio.current_task(self._loop)

    def _report(self, seconds: float, task: "asyncio.Task[object] | None") -> None:
        frame = sys._current_frames().get(self._loop_thread)
        context = _context(task)
        agent = context.get(log_ids.agent, "")
        if frame is None or not self._wanted(agent, seconds):
            return
        self._told = True
        by = f"agent {agent!r}" if agent else "code of an unknown agent"
        context.run(
            log.warning,
            "the event loop has been blocked for %.1f s by %s; no other request is served. It is at:\n%s",
            seconds,
            by,
            stack(frame),
        )

    def _wanted(self, agent: str, seconds: float) -> bool:
        """Whether to report a block: an agent that often blocks the loop must not fill the log."""
        now = time.monotonic()
        until, pause = self._quiet.get(agent, (0.0, 0.0))
        if now < until and seconds < LONG * BLOCKED_SECONDS:
            return self._told
        shortest, longest = QUIET_SECONDS
        pause = min(pause * 2, longest) if now < until + pause else shortest
        self._quiet[agent] = (now + max(pause, shortest), max(pause, shortest))
        return True


def stack(frame: FrameType) -> str:
    """The innermost frames of a stack, as text."""
    return "".join(traceback.format_stack(frame)[-FRAMES:]).rstrip()


def _context(task: "asyncio.Task[object] | None") -> Context:
    """A copy of a task's context; empty for a callback, whose context is unknown."""
    if task is None:
        return Context()
    if sys.version_info >= (3, 12):
        return task.get_context().copy()
    # A task has no public access to its context; the first Context that it refers to is its own.
    found = (one for one in gc.get_referents(task) if isinstance(one, Context))
    return next(found, Context()).copy()
