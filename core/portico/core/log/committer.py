"""Group commit: one transaction for the pending changes of all runs.

One task owns the list of changed runs. Changes that come during a transaction are collected for the next one,
so a busy core batches by itself and an idle core commits at once.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

from portico.core.errors import FencedOut, StoreUnavailable
from portico.core.log.encoding import EventEncoder, RunSnapshot
from portico.core.log.live_run import LiveRun
from portico.core.log.loop_timer import LoopTimer
from portico.core.log.run_metrics import RunMetrics
from portico.core.stores.ports.stores import Chunk, Commit, NewMessage, NewSession, RunLog, RunRecord
from portico.core.stores.storage_quota import StorageQuota
from portico.telemetry.log.retry_log import RetryLog

log = logging.getLogger(__name__)

RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
STORE_WAIT_SECONDS = 5.0  # time callers wait while the store rejects writes


class GroupCommitter:
    """Makes the events of live runs durable, then visible."""

    def __init__(
        self,
        runs: RunLog,
        encoder: EventEncoder,
        *,
        metrics: RunMetrics | None = None,
        room: StorageQuota | None = None,
        patience_seconds: float = STORE_WAIT_SECONDS,
    ) -> None:
        self._metrics = metrics
        self._room = room
        self._patience_seconds = patience_seconds
        self._runs = runs
        self._encoder = encoder
        self._dirty: list[LiveRun] = []
        self._ticks = LoopTimer()
        self._failing = RetryLog()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.failure: StoreUnavailable | None = None  # set while the store rejects writes

    def start(self) -> None:
        """Start the committing task."""
        self._ticks.start()
        self._task = asyncio.create_task(self._loop(), name="group-commit")

    async def stop(self) -> None:
        """Commit pending changes, then end. Changes that the store rejects are dropped."""
        if self._task is None:
            return
        idle = asyncio.create_task(self._idle.wait())
        waiting = {idle, self._task}
        while self.failure is None and not idle.done() and not self._task.done():
            await asyncio.wait(waiting, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        self._ticks.stop()

    def add(self, run: LiveRun) -> None:
        """Include the run's pending changes in the next commit."""
        self._dirty.append(run)
        self._idle.clear()
        self._wake.set()

    async def _loop(self) -> None:
        while True:
            await self._wake.wait()
            # Yield to the loop once: an agent's first output joins the commit of its start.
            await asyncio.sleep(0)
            self._wake.clear()
            dirty, self._dirty = self._dirty, []
            try:
                await self._commit(dirty)
            except FencedOut:
                log.error("another core has taken over the database; events not yet written are dropped")
                return
            self._ticks.count_commit()
            if not self._dirty:
                self._idle.set()

    async def _commit(self, dirty: list[LiveRun]) -> None:
        records: list[RunRecord] = []
        chunks: list[Chunk] = []
        messages: list[NewMessage] = []
        sessions: list[NewSession] = []
        taken = []
        now = time.time()
        for run in dirty:
            if run.published < 0:
                # Only with the run's acceptance: a session deleted during the run stays deleted.
                sessions.append(NewSession(*run.session, run.created_at))
            new, changed, more = run.take_pending()
            chunks += new
            record = self._record(run) if changed else None
            if record is not None:
                records.append(record)
            messages += more
            if self._room is not None:
                size = sum(len(chunk.data) for chunk in new) + sum(len(message.payload) for message in more)
                self._room.add(run.start.owner, size)
            taken.append((run, new, run.status, record))
        began = time.perf_counter()
        await self._write(Commit(runs=records, chunks=chunks, messages=messages, sessions=sessions), dirty)
        if self._metrics is not None:
            self._metrics.record_commit(taken, time.perf_counter() - began)
        for run, new, status, record in taken:
            run.publish(new, status, record, now)

    async def _write(self, commit: Commit, runs: Sequence[LiveRun]) -> None:
        """Retry until the commit is written: no event is dropped. Raises FencedOut if it never can be."""
        attempt = 0
        patient_until = time.monotonic() + self._patience_seconds
        while True:
            try:
                await self._runs.commit(commit)
            except FencedOut as error:
                self.failure = error
                for run in (*runs, *self._dirty):
                    run.report_store_failure(error)
                raise
            except StoreUnavailable as error:
                if self.failure is None:
                    log.error("the store rejects writes; runs wait until it accepts them: %s", error)
                self.failure = error
            except Exception:
                # A defect of the core. Ending here would leave every run hanging without an error.
                if self._failing.due():
                    log.exception("a commit of the log failed; runs wait until a retry succeeds")
                self.failure = StoreUnavailable("the log cannot be written; the core's log has the reason")
            else:
                if self.failure is not None:
                    log.warning("the store accepts writes again")
                    self.failure = None
                return
            if time.monotonic() >= patient_until:
                for run in (*runs, *self._dirty):
                    run.report_store_failure(self.failure)
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1

    def _record(self, run: LiveRun) -> RunRecord:
        request = run.start.request
        return RunRecord(
            run_id=run.run_id,
            agent_name=request.agent_name,
            user_id=run.start.owner,
            session_id=request.session_id,
            status=run.status.value,
            created_at=run.created_at,
            updated_at=run.status_at,
            last_sequence_number=run.next_sequence_number - 1,
            attempt=run.attempt,
            background=run.start.background,
            idempotency_key=run.start.idempotency_key or None,
            request=run.start.payload,
            summary=self._encoder.summary(_record_snapshot(run)),
            answers=run.answers_payload,
            ephemeral=run.start.ephemeral,
        )


def _record_snapshot(run: LiveRun) -> RunSnapshot:
    """The snapshot for the run's record: its time used is that at the last change of status."""
    snapshot = run.snapshot()
    if run.budget_tracker is not None:
        snapshot.used = run.budget_tracker.recorded_use()
    return snapshot
