"""The engine: starts runs, knows the live ones, and reads the log of all.

Everything here belongs to one event loop. A run is live from its acceptance
until its terminal event is durable; then the store alone knows it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from portico.agent import AgentApp, Budget, Message, Status
from portico.core.engine.budgets import Limit, open_quotas
from portico.core.engine.continuation import Continuations
from portico.core.engine.ephemeral import Ephemerals
from portico.core.engine.error_words import ErrorWords
from portico.core.engine.execution import Execution, Stop
from portico.core.engine.host import AgentHost
from portico.core.engine.keys import RecentKeys
from portico.core.engine.lanes import SessionLanes
from portico.core.engine.recovery import Recovery, TakenUp
from portico.core.engine.removal import Removal
from portico.core.engine.sandboxes import Sandboxes
from portico.core.engine.turns import RunLimits, Turns
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
from portico.core.log.committer import PATIENCE_SECONDS, GroupCommitter
from portico.core.log.encoding import EventEncoder, FinishedMessage, StartRequest
from portico.core.log.live_run import LiveRun
from portico.core.log.reader import LogReader
from portico.core.log.run_metrics import RunMetrics, states
from portico.core.stores.ports.stores import Stores
from portico.core.stores.storage_quota import Room
from portico.model.ids import new_id

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0  # how long agents may clean up when the process ends


@dataclass(frozen=True, slots=True)
class Limits:
    """What one core takes on."""

    live_runs: int = 20_000  # executing, paused and queued
    reader_grace_seconds: float = 30.0  # how long a foreground run goes on unread
    store_seconds: float = PATIENCE_SECONDS  # how long a caller waits for a store that takes no writes
    ephemeral_seconds: float = 60.0  # how long an ephemeral run is kept after its end
    runs: RunLimits = field(default_factory=RunLimits)
    budget: Budget = field(default_factory=Budget)  # the most that a run has


class RunEngine:
    """Runs and their logs."""

    def __init__(
        self,
        host: AgentHost,
        stores: Stores,
        encoder: EventEncoder,
        limits: Limits | None = None,
        sandboxes: Sandboxes | None = None,
        words: ErrorWords | None = None,
    ) -> None:
        self.host = host
        self._words = words or ErrorWords()
        self._sandboxes = sandboxes or Sandboxes()
        self._stores = stores
        self._encoder = encoder
        self._limits = limits or Limits()
        metrics = RunMetrics.wanted()
        self._committer = GroupCommitter(
            stores.runs, encoder, metrics, stores.room, self._limits.store_seconds
        )
        self._live: dict[str, Execution] = {}
        if metrics is not None:
            metrics.watch(self._states, lambda: self._sandboxes.count, lambda: self._sandboxes.templates)
        self._lanes = SessionLanes()
        self._turns: Turns[Execution] = Turns(self._limits.runs, self._begin)
        self._keys = RecentKeys(stores.runs)
        self._continuations = Continuations(stores, self._lanes, self.live)
        self.removal = Removal(stores, self._sandboxes, self._keys)
        self._ephemerals = Ephemerals(stores, self.removal, self._limits.ephemeral_seconds)
        self._recovery = Recovery(host, stores.runs, encoder, self._committer)
        self.draining = False
        self.launched = 0  # runs that this process has accepted

    async def start(self) -> None:
        """Initialise the agents, then take up what an earlier process left unfinished."""
        self._committer.start()
        await self.host.start()
        await self._keys.load()
        await self._ephemerals.start()
        for left in await self._recovery.unfinished():
            parent = self._live.get(left.parent_run_id)
            try:
                taken = await self._recovery.take_up(left, None if parent is None else parent.run)
                if taken is not None:
                    self._take_up(taken, parent)
            except Exception:
                # One run that can't be taken up must not keep the core from serving.
                log.exception("run %s can't be taken up", left.record.run_id)

    def _states(self) -> Mapping[str, int]:
        return states((execution.started, execution.paused) for execution in list(self._live.values()))

    def _take_up(self, taken: TakenUp, parent: Execution | None) -> None:
        run, left, policy = taken.run, taken.left, taken.run.start.busy_policy
        execution = self._open(run, taken.app, parent)
        asleep = partial(self._recovery.said, run.run_id) if left.waits else None
        execution.take_up(left.record.answers, asleep)
        if parent is None:
            self._turns.accept(run.start.owner)
        else:
            parent.children.keep(execution)
        if left.begun:
            self._lanes.enter(run)  # nobody was before it in its session
        if left.waits:
            log.info("run %s waits for an answer", run.run_id)
            if parent is None:
                self._turns.keep(execution)
        else:
            log.info("run %s goes on, attempt %d", run.run_id, run.attempt)
            if left.begun:
                self._take_turn(execution)
            else:
                self._enter(execution, "enqueue" if policy == "reject" else policy)
        execution.readers.watch()

    def _wake(self, execution: Execution | None) -> None:
        """A run that this one waited for, and that an earlier attempt of it has started, has been answered or
        has ended: execute it again, and those above it that wait for it."""
        waiting: list[Execution] = []
        while execution is not None and execution.waits_for_child and not self.draining:
            waiting.append(execution)
            execution = execution.parent
        for each in reversed(waiting):
            each.wake()
            self._begin(each)

    async def stop(self) -> None:
        """End the agents and write what is pending; unfinished runs are the next start's."""
        self.draining = True
        executions = list(self._live.values())
        for execution in executions:
            execution.request_stop(Stop.SHUTDOWN)
        stopping = [asyncio.create_task(execution.stopped()) for execution in executions]
        if stopping:
            _, deaf = await asyncio.wait(stopping, timeout=STOP_SECONDS)
            for task in deaf:
                task.cancel()
            if deaf:
                log.warning("%d agents do not stop and are left behind", len(deaf))
        await self.host.stop()
        await self._ephemerals.stop()
        await self._committer.stop()

    async def drained(self) -> None:
        """Return when no run executes any more; new ones are refused from now on."""
        self.draining = True
        # Looked at now and then: it happens once in a core's life.
        while any(e.started and not e.paused for e in self._live.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def launch(self, start: StartRequest) -> Execution | str:
        """Accept a run; its events flow at once, durable a moment later. For a repeat, the first run's id,
        once that run's acceptance is durable.

        Raises AgentNotFound, SessionBusy, LimitExceeded, IdempotencyConflict, Draining, StoreUnavailable.
        """
        if self._keys.needs_lookup(start) and (found := await self._keys.stored(start)) is not None:
            return found
        if (room := self._room_for(start)) is not None:
            await room.measure(start.owner, len(start.payload))
        while (pending := self._pending_answer(start)) is not None:
            await self.durable(*pending)
        return self.launch_now(start)

    async def launch_after(
        self,
        run_id: str,
        start: Callable[[str, str, bool], StartRequest],
        *,
        apart: bool,
        before: str = "",
    ) -> Execution | str:
        """Accept a run that continues another; `start` makes the request from its owner and session, and
        whether that session is its own. Raises RunNotFound, SessionNotFound, MessageNotFound, and as
        `launch`."""
        place = self._continuations.after(run_id, apart=apart, before=before)
        async with place as (owner, session_id, own):
            launched: Execution | str = ""
            try:
                launched = await self.launch(start(owner, session_id, own))
                return launched
            finally:
                if own and isinstance(launched, str):
                    # A repeat, or refused: the copy is nobody's.
                    await self._stores.sessions.delete(owner, session_id)

    def needs_lookup(self, start: StartRequest) -> bool:
        """Whether `launch` must wait for the store: to learn if the key is new or if there is room, or
        because the answer tells of a run that is not durable yet."""
        room = self._room_for(start)
        unsure = room is not None and not room.knows(start.owner, len(start.payload))
        return unsure or self._keys.needs_lookup(start) or self._pending_answer(start) is not None

    def _pending_answer(self, start: StartRequest) -> tuple[LiveRun, int] | None:
        """The run that `launch_now` would tell of, with an answer or a refusal, and the event of it that is
        to be durable first. None if it is, or if the answer tells of no run but the new one."""
        first = self._live.get(self._keys.run_of(start))
        if first is not None and first.run.published < 0:
            return first.run, 0
        if start.busy_policy == "reject":
            busy = self._lanes.busy((start.owner, start.request.session_id))
            if busy is not None and busy.published < 0:
                return busy, 0
        if start.parent_run_id:
            parent = self._live.get(start.parent_run_id)
            if parent is not None and (parent.stopping or parent.run.status.terminal):
                last = parent.run.next_sequence_number - 1
                return (parent.run, last) if parent.run.published < last else None
        return None

    def _room_for(self, start: StartRequest) -> Room | None:
        """A run that began when there was room may go beyond it, and so may those that it starts."""
        return None if start.parent_run_id else self._stores.room

    def launch_now(self, start: StartRequest) -> Execution | str:
        """`launch` for a request whose key, if any, the store does not know."""
        if start.idempotency_key and (found := self._keys.recent(start)) is not None:
            return found
        parent = self._parent_of(start)
        self._admit(parent)
        if (room := self._room_for(start)) is not None:
            room.check(start.owner, len(start.payload))
        app = self.host.find(start.request.agent_name)
        start = start.to(app.name)
        session = (start.owner, start.request.session_id)
        if start.busy_policy == "reject" and (busy := self._lanes.busy(session)) is not None:
            raise SessionBusy(session[1], busy.run_id)
        behind = start.busy_policy != "parallel" and self._lanes.busy(session) is not None
        above = None
        if parent is None:
            self._turns.check(start.owner, behind=behind)
        else:
            parent.children.check(start)
            above = parent.run.quotas
            if above is not None and not above.take(Limit.CHILD_RUNS):
                raise LimitExceeded("child_runs", above.error().message)
        quotas = open_quotas(self._limits.budget, start.budget, above)
        run = LiveRun(new_id("resp_"), start, self._committer, created_at=time.time(), quotas=quotas)
        execution = self._open(run, app, parent)
        if parent is None:
            self._turns.accept(start.owner)
        else:
            parent.children.add(execution)
        self.launched += 1
        if room is not None:
            room.add(start.owner, len(start.payload))
        self._keys.remember(start, run.run_id)
        execution.emitter.created()
        self._enter(execution, start.busy_policy)
        return execution

    async def parent(self, run_id: str) -> Execution:
        """A run that may start others. Raises RunNotFound, RunTerminal, RunNotStarted."""
        execution = await self._going_on(run_id)
        if not execution.started:
            raise RunNotStarted(run_id)
        return execution

    def _parent_of(self, start: StartRequest) -> Execution | None:
        if not start.parent_run_id:
            return None
        parent = self._live.get(start.parent_run_id)
        if parent is None or parent.stopping:
            raise RunTerminal(start.parent_run_id, "" if parent is None else parent.run.status.value)
        return parent

    def _launch_child(self, start: StartRequest) -> Execution:
        launched = self.launch_now(start)
        assert isinstance(launched, Execution)  # it has no key
        return launched

    def _admit(self, parent: Execution | None) -> None:
        if self.draining and parent is None:
            raise Draining  # a run that is to end in that time may need others for it
        self._check_store()
        if len(self._live) >= self._limits.live_runs:
            raise LimitExceeded("live_runs", f"the core has {len(self._live)} live runs; try again later")

    def _check_store(self) -> None:
        if self._committer.failure is not None:
            raise self._committer.failure.with_traceback(None)

    @property
    def store_failure(self) -> StoreUnavailable | None:
        """Why the store does not take what runs produce, while it does not."""
        return self._committer.failure

    async def durable(self, run: LiveRun, number: int) -> None:
        """Return once the event is in the log. Raises StoreUnavailable if the store takes no writes for long;
        the run goes on all the same, and is written as soon as it does."""
        await self._stored(run, lambda: run.published >= number)

    async def _stored(self, run: LiveRun, done: Callable[[], bool]) -> None:
        while not done():
            try:
                async with asyncio.timeout(self._limits.store_seconds):
                    await run.wait(done)
            except TimeoutError:
                self._check_store()  # one that is slow is waited for

    def live(self, run_id: str) -> LiveRun | None:
        """The run if it is live, as `execution`."""
        execution = self.execution(run_id)
        return None if execution is None else execution.run

    def live_of(self, owner: str) -> Set[str]:
        """The owner's runs that are live."""
        return {run_id for run_id, execution in self._live.items() if execution.run.start.owner == owner}

    def busy(self, session: tuple[str, str]) -> bool:
        """Whether a run of the session is live."""
        return self._lanes.busy(session) is not None

    def execution(self, run_id: str) -> Execution | None:
        """The run if it is live. One whose acceptance is not durable is not there for anybody but its caller:
        a crash would leave nothing of it."""
        execution = self._live.get(run_id)
        return execution if execution is not None and execution.run.published >= 0 else None

    async def _going_on(self, run_id: str) -> Execution:
        """Raises RunNotFound, RunTerminal."""
        execution = self.execution(run_id)
        if execution is None:
            raise RunTerminal(run_id, (await self._stores.runs.get(run_id)).status)
        return execution

    async def output(self, execution: Execution) -> Sequence[FinishedMessage]:
        """The finished messages that the log has of a live run."""
        run = execution.run
        if run.inherited:
            return (await self._recovery.said(run.run_id)).finished
        return [
            finished
            for finished in execution.emitter.output
            if finished.sequence_number is not None and finished.sequence_number <= run.published
        ]

    async def stored_owner(self, run_id: str) -> str:
        """Whose a run is that is in the store. Raises RunNotFound."""
        return (await self._stores.runs.get(run_id)).user_id

    async def is_ephemeral(self, run_id: str) -> bool:
        """Raises RunNotFound."""
        run = self.live(run_id)
        return bool((await self._stores.runs.get(run_id)).ephemeral if run is None else run.start.ephemeral)

    def read(self, execution: Execution, after: int = -1) -> LogReader:
        """A reader of a live run. While there is one, a foreground run goes on."""
        execution.readers.enter()
        run = execution.run
        return LogReader(self._stores.runs, run.run_id, after, run, run.published, execution.readers.leave)

    def watch_live(self, run_id: str, after: int) -> LogReader | None:
        """A reader of a live run from a cursor, None for another. Raises CursorAhead."""
        execution = self.execution(run_id)
        if execution is None:
            return None
        # What is not yet durable nobody has seen: a cursor there is a cursor ahead.
        if after > execution.run.published:
            raise CursorAhead(run_id, execution.run.published)
        return self.read(execution, after)

    async def watch(self, run_id: str, after: int) -> LogReader:
        """A reader of any run from a cursor. Raises RunNotFound, CursorAhead, CursorExpired."""
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
        return LogReader(self._stores.runs, run_id, after, None, last, lambda: None)

    async def cancel(self, run_id: str, metadata_json: str = "") -> None:
        """Return when the run has stopped and that is durable; the metadata is for its agent.

        Raises RunNotFound, RunTerminal (unless it is canceled), StoreUnavailable.
        """
        await self._stop_run(run_id, Stop.CANCEL, metadata_json)

    async def cancel_all(self, owner: str) -> None:
        """Return when none of the owner's runs goes on that do so now. Raises StoreUnavailable, Draining."""

        async def cancel(execution: Execution) -> None:
            with suppress(RunTerminal):  # it has ended by itself
                await self._stop_live(execution, Stop.CANCEL)

        await asyncio.gather(*(cancel(self._live[run_id]) for run_id in self.live_of(owner)))

    async def interrupt(self, run_id: str) -> None:
        """As `cancel`, with a last word of the agent. Raises RunNotFound, RunTerminal, StoreUnavailable."""
        await self._stop_run(run_id, Stop.INTERRUPT)

    async def interrupt_session(self, owner: str, session_id: str) -> Sequence[str]:
        """Interrupt what executes in a session; the ids of those runs. None once the ends of all runs that
        executed there are durable. Raises StoreUnavailable."""
        session = owner, session_id
        runs = [run.run_id for run in self._lanes.active(session)]
        await asyncio.gather(*(self._stop_live(self._live[run_id], Stop.INTERRUPT) for run_id in runs))
        if not runs:
            ending = [execution.run for execution in self._live.values() if execution.run.session == session]
            await asyncio.gather(*(self.durable(run, run.next_sequence_number - 1) for run in ending))
        return runs

    async def _stop_run(self, run_id: str, stop: Stop, metadata_json: str = "") -> None:
        execution = self.execution(run_id)
        if execution is not None:
            await self._stop_live(execution, stop, metadata_json)
            return
        record = await self._stores.runs.get(run_id)
        if stop is not Stop.CANCEL or record.status != Status.CANCELED:
            raise RunTerminal(run_id, record.status)

    async def _stop_live(self, execution: Execution, stop: Stop, metadata_json: str = "") -> None:
        execution.request_stop(stop, metadata_json)
        await execution.stopped()
        run = execution.run
        if not run.status.terminal:
            raise Draining
        await self.durable(run, run.next_sequence_number - 1)
        if stop is Stop.CANCEL and run.status is not Status.CANCELED:
            raise RunTerminal(run.run_id, run.status.value)

    async def resume(self, run_id: str, request_id: str, answer: Sequence[Message]) -> None:
        """Return when the answer is durable.

        Raises RunNotFound, RunNotPaused, RunTerminal, StoreUnavailable, Draining.
        """
        execution = await self._going_on(run_id)
        if self.draining and execution.paused and not execution.started:
            raise Draining  # the agent would begin, and be cut off
        async with self._durable_refusals(execution.run):
            execution.resume(request_id, answer)
        if not execution.started:
            self._wake(execution.parent)
            self._begin(execution)
        execution.readers.watch()
        await self.durable(execution.run, execution.run.next_sequence_number - 1)

    async def steer(self, run_id: str, told: Sequence[Message]) -> None:
        """Return when the agent will be told, also after a restart. Raises RunNotFound, RunTerminal,
        LimitExceeded, StoreUnavailable."""
        execution = await self._going_on(run_id)
        if self._stores.room is not None:
            await self._stores.room.take(execution.owner, 0)
        async with self._durable_refusals(execution.run):
            execution.steer(told)
        run, change = execution.run, execution.run.changes
        await self._stored(run, lambda: run.recorded >= change)

    @asynccontextmanager
    async def _durable_refusals(self, run: LiveRun) -> AsyncIterator[None]:
        """What is refused within because of the run's state is refused once that state is durable."""
        try:
            yield
        except (RunNotPaused, RunTerminal):
            await self.durable(run, run.next_sequence_number - 1)
            raise

    async def delete(self, run_id: str) -> None:
        """Raises RunNotFound, RunActive."""
        if self.execution(run_id) is not None:
            raise RunActive(run_id)
        if run_id in self._live or await self.removal.runs([run_id]) == (0, 0):
            raise RunNotFound(run_id)

    def _open(self, run: LiveRun, app: AgentApp, parent: Execution | None = None) -> Execution:
        execution = Execution(
            run,
            app,
            self.host,
            self._stores,
            self._encoder,
            self._limits.reader_grace_seconds,
            self._sandboxes,
            self._launch_child,
            self._ended,
            self._words,
            parent,
        )
        self._live[run.run_id] = execution
        return execution

    def _enter(self, execution: Execution, policy: str) -> None:
        """Begin the run now, or when it is its turn in the session."""
        run = execution.run
        busy = None if policy == "parallel" else self._lanes.busy(run.session)
        if busy is None:
            self._lanes.enter(run)
            self._take_turn(execution)
            return
        self._lanes.wait(run)
        if run.status is not Status.QUEUED:
            execution.emitter.queued()
        if policy == "interrupt":
            for other in self._lanes.active(run.session):
                self._live[other.run_id].request_stop(Stop.INTERRUPT)

    def _ended(self, execution: Execution) -> None:
        """The next run of the session begins; this one is forgotten once its end is durable."""
        run = execution.run

        def forget() -> None:
            if run.ended:
                self._live.pop(run.run_id, None)
                if run.start.ephemeral:
                    session = run.session if run.start.ephemeral == "session" else None
                    self._ephemerals.ended(run.run_id, session)

        run.subscribe(forget)
        following = self._lanes.leave(run)
        if following is not None and (not self.draining or self._live[following.run_id].parent is not None):
            self._take_turn(self._live[following.run_id])
        if execution.parent is None:
            self._turns.leave(execution)
        else:
            execution.parent.children.remove(execution)
            self._wake(execution.parent)

    def _take_turn(self, execution: Execution) -> None:
        """Begin the run now, or when others make room. A child run has its parent's turn."""
        if execution.parent is not None:
            self._begin(execution)
        elif not self._turns.ask(execution) and execution.run.status is not Status.QUEUED:
            execution.emitter.queued()

    def _begin(self, execution: Execution) -> None:
        if self.draining and execution.parent is None:
            return  # the next start takes it up
        try:
            execution.begin()
        except Exception:
            log.exception("run %s could not begin", execution.run.run_id)
            execution.fail_unstarted()
