"""Watches an event loop from a thread: which code holds it up, and how late its timers are.

While a coroutine computes, or sleeps without `await`, nobody else of its process is served. A timer of the
loop beats a few times a second, and a thread looks whether it does.
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
BLOCKED_SECONDS = 1.0  # then it is reported, and again after twice as long, and so on
QUIET_SECONDS = (10.0, 600.0)  # after a report, how long the same agent's short blocks are not; it doubles
LONG = 8.0  # times BLOCKED_SECONDS: a block that is reported even then
LOOPS = ("asyncio.base_events", "asyncio.runners", "selectors")  # where a loop waits; uvloop's has no frames
FRAMES = 24  # innermost ones of a stack
COMPUTING = 0.5  # of BLOCKED_SECONDS, by the loop's thread: the process was not only stopped


class LoopWatch:
    """Watches the running loop between `start` and `stop`, which are called on it."""

    def __init__(self) -> None:
        self._beats = 0
        self._due = 0.0
        self._told = False  # the current block has been reported
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="portico-loop-watch", daemon=True)
        self._quiet: dict[str, tuple[float, float]] = {}  # by agent: until when, and how long that is
        meter = meters.meter()
        self._lag = (
            None
            if meter is None
            else meters.seconds(
                meter, "portico.event_loop.lag", "How late a timer is that the event loop calls each 250 ms."
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
                return  # nobody stopped the watch; of a thread that is gone nothing can be asked
            now, by_now, task = time.monotonic(), self._computed(), self._task()
            # Time in which this thread could not look counts when the loop's thread computed meanwhile: code
            # that is not Python's may let no other thread run. If not, the whole process was stopped.
            alone = min(now - last, now - self._due) >= BLOCKED_SECONDS
            alone = alone and by_now - computed >= COMPUTING * BLOCKED_SECONDS
            passed, last, computed = now - last if alone else BEAT_SECONDS, now, by_now
            new = self._beats != seen
            if new and not alone:
                if self._told:
                    log.warning("the event loop goes on after about %.1f s", blocked)
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
                # Many that work in turns: the loop is busy, and none of them is to blame.
                blocked, suspect, next_report = 0.0, task, BLOCKED_SECONDS

    def _computed(self) -> float:
        """The CPU time of the loop's thread; 0 where nobody can ask for that of another thread."""
        if not hasattr(time, "pthread_getcpuclockid"):
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(self._loop_thread))

    def _idle(self, task: "asyncio.Task[object] | None") -> bool:
        """Whether the loop has nothing to do, and is late because others have the processor."""
        frame = sys._current_frames().get(self._loop_thread)
        return task is None and frame is not None and frame.f_globals.get("__name__") in LOOPS

    def _task(self) -> "asyncio.Task[object] | None":
        """The one that the loop runs at this moment."""
        return asyncio.current_task(self._loop)

    def _report(self, seconds: float, task: "asyncio.Task[object] | None") -> None:
        frame = sys._current_frames().get(self._loop_thread)
        context = _context(task)
        agent = context.get(log_ids.agent, "")
        if frame is None or not self._wanted(agent, seconds):
            return
        self._told = True
        by = f"agent {agent!r}" if agent else "code of no agent that is known"
        context.run(
            log.warning,
            "the event loop has been held up for %.1f s by %s; nobody else is served. It is at:\n%s",
            seconds,
            by,
            stack(frame),
        )

    def _wanted(self, agent: str, seconds: float) -> bool:
        """An agent that blocks the loop again and again fills no log."""
        now = time.monotonic()
        until, pause = self._quiet.get(agent, (0.0, 0.0))
        if now < until and seconds < LONG * BLOCKED_SECONDS:
            return self._told
        shortest, longest = QUIET_SECONDS
        pause = min(pause * 2, longest) if now < until + pause else shortest
        self._quiet[agent] = (now + max(pause, shortest), max(pause, shortest))
        return True


def stack(frame: FrameType) -> str:
    """Where it is, the innermost frames of it."""
    return "".join(traceback.format_stack(frame)[-FRAMES:]).rstrip()


def _context(task: "asyncio.Task[object] | None") -> Context:
    """A copy of the variables that a task runs with; none of a callback's are known."""
    if task is None:
        return Context()
    if sys.version_info >= (3, 12):
        return task.get_context().copy()
    # Nothing else tells it; a task's own context is the first that it refers to.
    found = (one for one in gc.get_referents(task) if isinstance(one, Context))
    return next(found, Context()).copy()
