"""Retention: deletes items older than the operator's limits, and expired memories.

It works in small batches, a few per second, because commits wait for them: a core that was down for long, or
that has a limit for the first time, serves as usual. Ages are differences of dates, so a clock that is set
forward makes everything old at once; the new time is used only after an hour.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from portico.core.errors import SessionNotFound, StoreUnavailable
from portico.core.runs.removal import BATCH
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.ports.stores import Stores
from portico.telemetry.log.retry_log import RetryLog
from portico.telemetry.metrics.counters import Counters, gauge

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
CLOCK_DISTRUST_SECONDS = 3600.0  # time until a clock that was set forward is used
REST_FACTOR = 4.0  # rest after a batch, as a multiple of the batch's duration


@dataclass(frozen=True, slots=True)
class RetentionTtls:
    """Time to live of each kind of item, in seconds; None to keep it until it is deleted."""

    runs: float | None = None  # since their end
    sessions: float | None = None  # since their last use
    states: float | None = None  # since they were saved
    memories: float | None = None  # since they were added or last changed


class Retention:
    """Deletes old items from `start` to `stop`."""

    def __init__(
        self,
        engine: RunEngine,
        stores: Stores,
        ttls: RetentionTtls,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._stores = stores
        self._ttls = ttls
        self._clock = clock
        self._monotonic = monotonic
        self._refused, self._defects = RetryLog(), RetryLog()
        self._seen: deque[tuple[float, float]] = deque()  # readings of both clocks in the last hour
        self._task: asyncio.Task[None] | None = None
        self._done_at = monotonic()
        self._removed = Counters(
            "portico.retention.removed", "{thing}", "Items that retention has deleted.", "kind"
        )
        self._failed = Counters(
            "portico.retention.failures",
            "{sweep}",
            "Sweeps of retention that failed, because of the store or a defect.",
        )
        gauge(
            "portico.retention.age",
            "s",
            "Time since retention last completed a sweep, or since the core started.",
            lambda: [(self._monotonic() - self._done_at, {})],
        )

    def start(self) -> None:
        """Start the sweeping task."""
        self._task = asyncio.create_task(self._work(), name="retention")

    async def stop(self) -> None:
        """Cancel the present sweep; the next start continues."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def sweep(self) -> None:
        """Delete all items that are too old now, and expired memories. Raises StoreUnavailable."""
        now = self._now()
        await self._repeat("expired_memory", self._stores.memories.remove_expired, now)
        ttls = self._ttls
        if ttls.runs is not None:
            await self._repeat("run", self._runs, now - ttls.runs)
        if ttls.sessions is not None:
            await self._sessions(now - ttls.sessions)
        if ttls.states is not None:
            await self._repeat("state", self._stores.states.expire, now - ttls.states)
        if ttls.memories is not None:
            await self._repeat("memory", self._stores.memories.expire, now - ttls.memories)
        self._done_at = self._monotonic()

    async def _work(self) -> None:
        while True:
            try:
                await self.sweep()
            except StoreUnavailable as error:
                self._failed.add()
                if self._refused.due():
                    log.warning("a retention sweep failed, it is retried: %s", error)
            except Exception:
                self._failed.add()
                if self._defects.due():
                    log.exception("a retention sweep failed; it is retried")
            await asyncio.sleep(SWEEP_SECONDS)

    def _now(self) -> float:
        """The present date; for an hour after a jump forward, the date without the jump."""
        date, moment = self._clock(), self._monotonic()
        self._seen.append((date, moment))
        while self._seen[0][1] < moment - CLOCK_DISTRUST_SECONDS:
            self._seen.popleft()
        return min(then + moment - since for then, since in self._seen)

    async def _repeat(self, kind: str, remove: Callable[[float, int], Awaitable[int]], before: float) -> None:
        more = True
        while more:
            began = self._monotonic()
            removed = await remove(before, BATCH)
            self._removed.add(kind, number=removed)
            more = removed > 0
            await self._rest(began)

    async def _runs(self, before: float, limit: int) -> int:
        found = await self._stores.runs.ended(before, limit)
        await self._engine.removal.delete_runs(found)
        return len(found)

    async def _sessions(self, before: float) -> None:
        last = None
        while found := await self._stores.sessions.idle(before, last, BATCH):
            for last in found:
                # A run may be silent for longer than the time to live of its session.
                if not self._engine.has_live_run((last.user_id, last.session_id)):
                    began = self._monotonic()
                    with suppress(SessionNotFound):
                        await self._engine.removal.delete_idle_session(last.user_id, last.session_id, before)
                        self._removed.add("session")
                    await self._rest(began)

    async def _rest(self, began: float) -> None:
        await asyncio.sleep((self._monotonic() - began) * REST_FACTOR)
