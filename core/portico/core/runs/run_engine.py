"""Run engine: admits, starts, stops and recovers runs, and opens readers of their logs.

All of it runs on one event loop. A run is live from its acceptance until its terminal event is durable; after
that only the store has it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from portico.agent import AgentApp, Budget, Message, Status
from portico.core.budgets import BudgetLimit, open_budget_tracker
from portico.core.errors import (
    CursorAhead,
    CursorExpired,
    Draining,
    LimitExceeded,
    RunActive,
    RunNotFound,
    RunNotPaused,
    RunNotStarted,
    RunTerminal,
    SessionBusy,
    StoreUnavailable,
)
from portico.core.execution.execution import Execution, StopReason
from portico.core.hosts.base.agent_host import AgentHost
from portico.core.hosts.base.error_disclosure import ErrorDisclosure
from portico.core.log.committer import STORE_WAIT_SECONDS, GroupCommitter
from portico.core.log.encoding import EventEncoder, FinishedMessage, RunRequest
from portico.core.log.live_run import LiveRun
from portico.core.log.reader import LogReader
from portico.core.log.run_metrics import RunMetrics, count_states
from portico.core.runs.continuation import Continuations
from portico.core.runs.ephemeral import EphemeralCleaner
from portico.core.runs.idempotency import IdempotencyIndex
from portico.core.runs.recovery import RecoveredRun, Recovery
from portico.core.runs.removal import Removal
from portico.core.runs.scheduler import FairScheduler, RunLimits
from portico.core.runs.session_queue import SessionQueue
from portico.core.sandboxes.core_sandboxes import CoreSandboxes
from portico.core.stores.ports.stores import Stores
from portico.core.stores.storage_quota import StorageQuota
from portico.model.ids import new_id

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0  # time for agents to clean up when the process ends


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Limits of one core process."""

    live_runs: int = 20_000  # executing, paused and queued
    reader_grace_seconds: float = 30.0  # time a foreground run continues without a reader
    store_seconds: float = STORE_WAIT_SECONDS  # time a caller waits while the store rejects writes
    ephemeral_seconds: float = 60.0  # time an ephemeral run is kept after its end
    runs: RunLimits = field(default_factory=RunLimits)
    budget: Budget = field(default_factory=Budget)  # upper bound of every run's budget


class RunEngine:
    """Starts and stops the runs of one core and keeps the live ones."""

    def __init__(
        self,
        host: AgentHost,
        stores: Stores,
        encoder: EventEncoder,
        limits: EngineLimits | None = None,
        sandboxes: CoreSandboxes | None = None,
        words: ErrorDisclosure | None = None,
    ) -> None:
        self.host = host
        self._error_disclosure = words or ErrorDisclosure()
        self._sandboxes = sandboxes or CoreSandboxes()
        self._stores = stores
        self._encoder = encoder
        self._limits = limits or EngineLimits()
        metrics = RunMetrics.create_if_enabled()
        self._committer = GroupCommitter(
            stores.runs,
            encoder,
            metrics=metrics,
            room=stores.quota,
            patience_seconds=self._limits.store_seconds,
        )
        self._live: dict[str, Execution] = {}
        if metrics is not None:
            metrics.watch(self._states, lambda: self._sandboxes.count, lambda: self._sandboxes.templates)
        self._session_queue = SessionQueue()
        self._scheduler: FairScheduler[Execution] = FairScheduler(self._limits.runs, self._begin)
        self._idempotency = IdempotencyIndex(stores.runs)
        self._continuations = Continuations(stores, self._session_queue, self.live)
        self.removal = Removal(stores, self._sandboxes, self._idempotency)
        self._ephemerals = EphemeralCleaner(stores, self.removal, self._limits.ephemeral_seconds)
        self._recovery = Recovery(host, stores.runs, encoder, self._committer)
        self.draining = False
        self.admitted_count = 0  # number of runs accepted by this process

    async def start(self) -> None:
        """Initialise the agents, then take up the unfinished runs of earlier processes."""
        self._committer.start()
        await self.host.start()
        await self._idempotency.load()
        await self._ephemerals.start()
        for left in await self._recovery.find_unfinished():
            parent = self._live.get(left.parent_run_id)
            try:
                taken = await self._recovery.recover(left, None if parent is None else parent.run)
                if taken is not None:
                    self._resume_recovered(taken, parent)
            except Exception:
                # A run whose recovery fails must not prevent the core from serving.
                log.exception("run %s cannot be recovered", left.record.run_id)

    def _states(self) -> Mapping[str, int]:
        return count_states((execution.started, execution.paused) for execution in list(self._live.values()))

    def _resume_recovered(self, taken: RecoveredRun, parent: Execution | None) -> None:
        run, left, policy = taken.run, taken.left, taken.run.start.busy_policy
        execution = self._open(run, taken.app, parent)
        asleep = partial(self._recovery.read_output, run.run_id) if left.waits else None
        execution.resume_recovered(left.record.answers, asleep)
        if parent is None:
            self._scheduler.register(run.start.owner)
        else:
            parent.children.add_recovered(execution)
        if left.has_started:
            self._session_queue.enter(run)  # it was the first run of its session
        if left.waits:
            log.info("run %s is paused and waits for an answer", run.run_id)
            if parent is None:
                self._scheduler.register_running(execution)
        else:
            log.info("run %s continues with attempt %d", run.run_id, run.attempt)
            if left.has_started:
                self._schedule(execution)
            else:
                self._enqueue(execution, "enqueue" if policy == "reject" else policy)
        execution.readers.start_grace_period()

    def _wake_waiting_parents(self, execution: Execution | None) -> None:
        """Execute a recovered run and its waiting ancestors again: its child run was answered or has ended.

        The child run was started by an earlier attempt of this run.
        """
        waiting: list[Execution] = []
        while execution is not None and execution.waits_for_child and not self.draining:
            waiting.append(execution)
            execution = execution.parent
        for each in reversed(waiting):
            each.resume_waiting()
            self._begin(each)

    async def stop(self) -> None:
        """Stop the agents and commit pending events; the next start takes up unfinished runs."""
        self.draining = True
        executions = list(self._live.values())
        for execution in executions:
            execution.request_stop(StopReason.SHUTDOWN)
        stopping = [asyncio.create_task(execution.wait_stopped()) for execution in executions]
        if stopping:
            _, deaf = await asyncio.wait(stopping, timeout=STOP_SECONDS)
            for task in deaf:
                task.cancel()
            if deaf:
                log.warning("%d agents did not stop within the time limit and are abandoned", len(deaf))
        await self.host.stop()
        await self._ephemerals.stop()
        await self._committer.stop()

    async def wait_drained(self) -> None:
        """Refuse new runs from now on; return when no run is executing."""
        self.draining = True
        # Polling suffices: a core drains once in its life.
        while any(e.started and not e.paused for e in self._live.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def admit(self, start: RunRequest) -> Execution | str:
        """Accept a run, and begin or queue it. Its acceptance is durable a moment later.

        Returns:
            The execution of the new run; or, for a repeated idempotency key, the id of the first run, once
                the acceptance of that run is durable.

        Raises:
            AgentNotFound: No agent has the requested name.
            SessionBusy: A run of the session is live and the busy policy is "reject".
            LimitExceeded: A limit of runs, budget or storage is reached.
            IdempotencyConflict: The key belongs to a run with another request.
            Draining: The core accepts no new runs.
            StoreUnavailable: The store rejects writes.
        """
        if (
            self._idempotency.needs_lookup(start)
            and (found := await self._idempotency.find_stored(start)) is not None
        ):
            return found
        if (room := self._quota_for(start)) is not None:
            await room.measure(start.owner, len(start.payload))
        while (pending := self._undurable_reference(start)) is not None:
            await self.wait_durable(*pending)
        return self.admit_now(start)

    async def admit_continuation(
        self,
        run_id: str,
        start: Callable[[str, str, bool], RunRequest],
        *,
        apart: bool,
        before: str = "",
    ) -> Execution | str:
        """Accept a run that continues another run.

        Args:
            run_id: The run to continue.
            start: Makes the request from the owner, the session id, and whether that session is a copy made
                for the new run.
            apart: Always run in a copy of the session.
            before: Id of a message; the copy ends before it.

        Raises:
            RunNotFound: The run does not exist.
            SessionNotFound: The session of the run was deleted.
            MessageNotFound: The session has no message `before`.
            PorticoError: As `launch`.
        """
        place = self._continuations.reserve_session(run_id, apart=apart, before=before)
        async with place as (owner, session_id, own):
            launched: Execution | str = ""
            try:
                launched = await self.admit(start(owner, session_id, own))
                return launched
            finally:
                if own and isinstance(launched, str):
                    # A repeated or a refused request does not use the copy.
                    await self._stores.sessions.delete(owner, session_id)

    def needs_store(self, start: RunRequest) -> bool:
        """Whether `launch` must wait for the store.

        It must when only the store knows whether the key is new or whether there is storage space, or when
        the answer names a run that is not durable yet.
        """
        room = self._quota_for(start)
        unsure = room is not None and not room.can_check_now(start.owner, len(start.payload))
        return unsure or self._idempotency.needs_lookup(start) or self._undurable_reference(start) is not None

    def _undurable_reference(self, start: RunRequest) -> tuple[LiveRun, int] | None:
        """The run that the answer or refusal of `admit_now` names, and its event that must be durable first.

        None if that event is durable, or if the answer names only the new run.
        """
        first = self._live.get(self._idempotency.run_id_of(start))
        if first is not None and first.run.published < 0:
            return first.run, 0
        if start.busy_policy == "reject":
            busy = self._session_queue.blocking_run((start.owner, start.request.session_id))
            if busy is not None and busy.published < 0:
                return busy, 0
        if start.parent_run_id:
            parent = self._live.get(start.parent_run_id)
            if parent is not None and (parent.stopping or parent.run.status.terminal):
                last = parent.run.next_sequence_number - 1
                return (parent.run, last) if parent.run.published < last else None
        return None

    def _quota_for(self, start: RunRequest) -> StorageQuota | None:
        """The storage quota of a root run. A run admitted within the quota may exceed it, and so may its
        child runs.
        """
        return None if start.parent_run_id else self._stores.quota

    def admit_now(self, start: RunRequest) -> Execution | str:
        """As `launch`, for a request without a key or with a key that the store does not have."""
        if start.idempotency_key and (found := self._idempotency.find_recent(start)) is not None:
            return found
        parent = self._parent_of(start)
        self._check_capacity(parent)
        if (room := self._quota_for(start)) is not None:
            room.check(start.owner, len(start.payload))
        app = self.host.find(start.request.agent_name)
        start = start.for_agent(app.name)
        session = (start.owner, start.request.session_id)
        if start.busy_policy == "reject" and (busy := self._session_queue.blocking_run(session)) is not None:
            raise SessionBusy(session[1], busy.run_id)
        behind = start.busy_policy != "parallel" and self._session_queue.blocking_run(session) is not None
        above = None
        if parent is None:
            self._scheduler.check_queue_limit(start.owner, behind=behind)
        else:
            parent.children.check(start)
            above = parent.run.budget_tracker
            if above is not None and not above.try_count(BudgetLimit.CHILD_RUNS):
                raise LimitExceeded("child_runs", above.error().message)
        quotas = open_budget_tracker(self._limits.budget, start.budget, above)
        run = LiveRun(new_id("resp_"), start, self._committer, created_at=time.time(), quotas=quotas)
        execution = self._open(run, app, parent)
        if parent is None:
            self._scheduler.register(start.owner)
        else:
            parent.children.add(execution)
        self.admitted_count += 1
        if room is not None:
            room.add(start.owner, len(start.payload))
        self._idempotency.remember(start, run.run_id)
        execution.emitter.created()
        self._enqueue(execution, start.busy_policy)
        return execution

    async def running_parent(self, run_id: str) -> Execution:
        """Return a run that may start child runs.

        Raises:
            RunNotFound: The run does not exist.
            RunTerminal: The run has ended.
            RunNotStarted: The agent of the run is not executing yet.
        """
        execution = await self._unfinished_execution(run_id)
        if not execution.started:
            raise RunNotStarted(run_id)
        return execution

    def _parent_of(self, start: RunRequest) -> Execution | None:
        if not start.parent_run_id:
            return None
        parent = self._live.get(start.parent_run_id)
        if parent is None or parent.stopping:
            raise RunTerminal(start.parent_run_id, "" if parent is None else parent.run.status.value)
        return parent

    def _admit_child(self, start: RunRequest) -> Execution:
        launched = self.admit_now(start)
        assert isinstance(launched, Execution)  # child runs have no idempotency key
        return launched

    def _check_capacity(self, parent: Execution | None) -> None:
        if self.draining and parent is None:
            raise Draining  # child runs are admitted: a run may need them to end while the core drains
        self._check_store()
        if len(self._live) >= self._limits.live_runs:
            raise LimitExceeded("live_runs", f"the core has {len(self._live)} live runs; try again later")

    def _check_store(self) -> None:
        if self._committer.failure is not None:
            raise self._committer.failure.with_traceback(None)

    @property
    def store_failure(self) -> StoreUnavailable | None:
        """Why the store rejects writes at present; None if it accepts them."""
        return self._committer.failure

    async def wait_durable(self, run: LiveRun, number: int) -> None:
        """Return once the event is in the log.

        Raises:
            StoreUnavailable: The store rejects writes for longer than `Limits.store_seconds`. The run
                continues and is written when the store accepts writes again.
        """
        await self._wait_recorded(run, lambda: run.published >= number)

    async def _wait_recorded(self, run: LiveRun, done: Callable[[], bool]) -> None:
        while not done():
            try:
                async with asyncio.timeout(self._limits.store_seconds):
                    await run.wait_until(done)
            except TimeoutError:
                self._check_store()  # a slow store is no failure: wait on

    def live(self, run_id: str) -> LiveRun | None:
        """The run if it is live; as `execution`."""
        execution = self.execution(run_id)
        return None if execution is None else execution.run

    def live_of(self, owner: str) -> Set[str]:
        """Ids of the owner's live runs."""
        return {run_id for run_id, execution in self._live.items() if execution.run.start.owner == owner}

    def has_live_run(self, session: tuple[str, str]) -> bool:
        """Whether a run of the session is live."""
        return self._session_queue.blocking_run(session) is not None

    def execution(self, run_id: str) -> Execution | None:
        """The execution of the run, if the run is live and its acceptance is durable.

        Before that only its caller knows the run: after a crash nothing of it would exist.
        """
        execution = self._live.get(run_id)
        return execution if execution is not None and execution.run.published >= 0 else None

    async def _unfinished_execution(self, run_id: str) -> Execution:
        """The execution of a live run. Raises RunNotFound, RunTerminal."""
        execution = self.execution(run_id)
        if execution is None:
            raise RunTerminal(run_id, (await self._stores.runs.get(run_id)).status)
        return execution

    async def output(self, execution: Execution) -> Sequence[FinishedMessage]:
        """The finished messages of a live run that are in the log."""
        run = execution.run
        if run.was_recovered:
            return (await self._recovery.read_output(run.run_id)).finished
        return [
            finished
            for finished in execution.emitter.output
            if finished.sequence_number is not None and finished.sequence_number <= run.published
        ]

    async def stored_owner(self, run_id: str) -> str:
        """The owner of a stored run. Raises RunNotFound."""
        return (await self._stores.runs.get(run_id)).user_id

    async def is_ephemeral(self, run_id: str) -> bool:
        """Whether the run is ephemeral. Raises RunNotFound."""
        run = self.live(run_id)
        return bool((await self._stores.runs.get(run_id)).ephemeral if run is None else run.start.ephemeral)

    def read(self, execution: Execution, after: int = -1) -> LogReader:
        """Open a reader of a live run after a cursor. A foreground run continues while it has a reader."""
        execution.readers.add()
        run = execution.run
        return LogReader(
            self._stores.runs,
            run.run_id,
            cursor=after,
            live=run,
            last=run.published,
            on_close=execution.readers.remove,
        )

    def watch_live(self, run_id: str, after: int) -> LogReader | None:
        """Open a reader of a live run after a cursor; None if the run is not live.

        Raises:
            CursorAhead: No event with that number is durable.
        """
        execution = self.execution(run_id)
        if execution is None:
            return None
        # No reader has seen an event that is not durable, so a cursor there is ahead of the log.
        if after > execution.run.published:
            raise CursorAhead(run_id, execution.run.published)
        return self.read(execution, after)

    async def watch(self, run_id: str, after: int) -> LogReader:
        """Open a reader of any run after a cursor.

        Raises:
            RunNotFound: The run does not exist.
            CursorAhead: No event with that number is durable.
            CursorExpired: The events after the cursor were removed.
        """
        if (reader := self.watch_live(run_id, after)) is not None:
            return reader
        record = await self._stores.runs.get(run_id)
        last = record.last_sequence_number
        if after > last:
            raise CursorAhead(run_id, last)
        if after < last:
            chunks = await self._stores.runs.read(run_id, after, 1)
            if not chunks or chunks[0].first > after + 1:
                raise CursorExpired(run_id, chunks[0].first if chunks else last + 1)
        return LogReader(self._stores.runs, run_id, cursor=after, live=None, last=last, on_close=lambda: None)

    async def cancel(self, run_id: str, metadata_json: str = "") -> None:
        """Cancel a run; return when it has stopped and its end is durable.

        Args:
            run_id: The run.
            metadata_json: JSON object for the run's agent, empty for none.

        Raises:
            RunNotFound: The run does not exist.
            RunTerminal: The run has ended with another status than canceled.
            StoreUnavailable: The store rejects writes.
        """
        await self._stop_run(run_id, StopReason.CANCEL, metadata_json)

    async def cancel_all(self, owner: str) -> None:
        """Cancel the owner's live runs; return when they have ended. Raises StoreUnavailable, Draining."""

        async def cancel(execution: Execution) -> None:
            with suppress(RunTerminal):  # the run ended before the cancellation
                await self._stop_live(execution, StopReason.CANCEL)

        await asyncio.gather(*(cancel(self._live[run_id]) for run_id in self.live_of(owner)))

    async def interrupt(self, run_id: str) -> None:
        """Interrupt a run: as `cancel`, but its agent may emit final output.

        Raises:
            RunNotFound: The run does not exist.
            RunTerminal: The run has ended.
            StoreUnavailable: The store rejects writes.
        """
        await self._stop_run(run_id, StopReason.INTERRUPT)

    async def interrupt_session(self, owner: str, session_id: str) -> Sequence[str]:
        """Interrupt the executing runs of a session.

        Returns:
            The ids of these runs. Empty if none executes; then the ends of all earlier runs of the session
                are durable.

        Raises:
            StoreUnavailable: The store rejects writes.
        """
        session = owner, session_id
        runs = [run.run_id for run in self._session_queue.active(session)]
        await asyncio.gather(*(self._stop_live(self._live[run_id], StopReason.INTERRUPT) for run_id in runs))
        if not runs:
            ending = [execution.run for execution in self._live.values() if execution.run.session == session]
            await asyncio.gather(*(self.wait_durable(run, run.next_sequence_number - 1) for run in ending))
        return runs

    async def _stop_run(self, run_id: str, stop: StopReason, metadata_json: str = "") -> None:
        execution = self.execution(run_id)
        if execution is not None:
            await self._stop_live(execution, stop, metadata_json)
            return
        record = await self._stores.runs.get(run_id)
        if stop is not StopReason.CANCEL or record.status != Status.CANCELED:
            raise RunTerminal(run_id, record.status)

    async def _stop_live(self, execution: Execution, stop: StopReason, metadata_json: str = "") -> None:
        execution.request_stop(stop, metadata_json)
        await execution.wait_stopped()
        run = execution.run
        if not run.status.terminal:
            raise Draining
        await self.wait_durable(run, run.next_sequence_number - 1)
        if stop is StopReason.CANCEL and run.status is not Status.CANCELED:
            raise RunTerminal(run.run_id, run.status.value)

    async def resume(self, run_id: str, request_id: str, answer: Sequence[Message]) -> None:
        """Answer the open question of a paused run; return when the answer is durable.

        Raises:
            RunNotFound: The run does not exist.
            RunNotPaused: The run has no open question, or another one.
            RunTerminal: The run has ended.
            StoreUnavailable: The store rejects writes.
            Draining: The core is shutting down.
        """
        execution = await self._unfinished_execution(run_id)
        if self.draining and execution.paused and not execution.started:
            raise Draining  # the agent would start and be stopped at once
        async with self._durable_refusals(execution.run):
            execution.resume(request_id, answer)
        if not execution.started:
            self._wake_waiting_parents(execution.parent)
            self._begin(execution)
        execution.readers.start_grace_period()
        await self.wait_durable(execution.run, execution.run.next_sequence_number - 1)

    async def steer(self, run_id: str, told: Sequence[Message]) -> None:
        """Queue messages for the agent of a live run; return when they survive a restart.

        Raises:
            RunNotFound: The run does not exist.
            RunTerminal: The run has ended.
            LimitExceeded: The agent has too many messages it has not read, or the storage quota is reached.
            StoreUnavailable: The store rejects writes.
        """
        execution = await self._unfinished_execution(run_id)
        if self._stores.quota is not None:
            await self._stores.quota.check_and_measure(execution.owner, 0)
        async with self._durable_refusals(execution.run):
            execution.steer(told)
        run, change = execution.run, execution.run.changes
        await self._wait_recorded(run, lambda: run.recorded >= change)

    @asynccontextmanager
    async def _durable_refusals(self, run: LiveRun) -> AsyncIterator[None]:
        """Raise a refusal that the run's state caused only once that state is durable."""
        try:
            yield
        except (RunNotPaused, RunTerminal):
            await self.wait_durable(run, run.next_sequence_number - 1)
            raise

    async def delete(self, run_id: str) -> None:
        """Delete a run that has ended. Raises RunNotFound, RunActive."""
        if self.execution(run_id) is not None:
            raise RunActive(run_id)
        if run_id in self._live or await self.removal.delete_runs([run_id]) == (0, 0):
            raise RunNotFound(run_id)

    def _open(self, run: LiveRun, app: AgentApp, parent: Execution | None = None) -> Execution:
        execution = Execution(
            run,
            app,
            host=self.host,
            stores=self._stores,
            encoder=self._encoder,
            reader_grace_seconds=self._limits.reader_grace_seconds,
            sandboxes=self._sandboxes,
            launch=self._admit_child,
            on_end=self._on_execution_end,
            words=self._error_disclosure,
            parent=parent,
        )
        self._live[run.run_id] = execution
        return execution

    def _enqueue(self, execution: Execution, policy: str) -> None:
        """Begin the run now, or append it to the queue of its session."""
        run = execution.run
        busy = None if policy == "parallel" else self._session_queue.blocking_run(run.session)
        if busy is None:
            self._session_queue.enter(run)
            self._schedule(execution)
            return
        self._session_queue.enqueue(run)
        if run.status is not Status.QUEUED:
            execution.emitter.queued()
        if policy == "interrupt":
            for other in self._session_queue.active(run.session):
                self._live[other.run_id].request_stop(StopReason.INTERRUPT)

    def _on_execution_end(self, execution: Execution) -> None:
        """Begin the next run of the session; forget this run once its end is durable."""
        run = execution.run

        def forget() -> None:
            if run.is_terminal_durable:
                self._live.pop(run.run_id, None)
                if run.start.ephemeral:
                    session = run.session if run.start.ephemeral == "session" else None
                    self._ephemerals.schedule(run.run_id, session)

        run.subscribe(forget)
        following = self._session_queue.release(run)
        if following is not None and (not self.draining or self._live[following.run_id].parent is not None):
            self._schedule(self._live[following.run_id])
        if execution.parent is None:
            self._scheduler.release(execution)
        else:
            execution.parent.children.remove(execution)
            self._wake_waiting_parents(execution.parent)

    def _schedule(self, execution: Execution) -> None:
        """Begin the run now, or when the scheduler has a free place. A child run uses its parent's place."""
        if execution.parent is not None:
            self._begin(execution)
        elif not self._scheduler.start_or_queue(execution) and execution.run.status is not Status.QUEUED:
            execution.emitter.queued()

    def _begin(self, execution: Execution) -> None:
        if self.draining and execution.parent is None:
            return  # the next start recovers the run
        try:
            execution.start()
        except Exception:
            log.exception("run %s could not be started", execution.run.run_id)
            execution.fail_before_start()
