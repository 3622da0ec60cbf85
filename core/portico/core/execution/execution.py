"""Execution of one run: controls its agent from the first event to the terminal event."""

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any

import orjson

from portico.agent import AgentApp, AgentError, Context, Error, InputRequest, Message, Status
from portico.agent.child_runs import RunResult
from portico.core.errors import Draining, LimitExceeded, RunNotPaused, RunTerminal
from portico.core.execution.children import ChildRuns, ChildRunStarter, StartChild
from portico.core.execution.context_stores import ContextMemory, ContextResults, ContextSession, ContextState
from portico.core.execution.emitter import Emitter
from portico.core.execution.reader_tracker import ReaderTracker
from portico.core.execution.received_input import ReceivedInput
from portico.core.execution.run_spans import RunSpans
from portico.core.hosts.base.agent_errors import failure_status
from portico.core.hosts.base.agent_host import AgentHost
from portico.core.hosts.base.error_disclosure import ErrorDisclosure
from portico.core.hosts.base.function_threads import lend_slot
from portico.core.hosts.base.once_calls import OnceCalls
from portico.core.log.encoding import EventEncoder, PendingInput, Recovered
from portico.core.log.live_run import LiveRun
from portico.core.sandboxes.core_sandboxes import CoreSandboxes
from portico.core.sandboxes.run_sandbox import SandboxesOfRun
from portico.core.stores.ports.stores import Stores
from portico.model.identity import AGENT_PREFIX, owner_key, tenant_of
from portico.telemetry.log import log_ids

log = logging.getLogger(__name__)

MAX_UNTAKEN_MESSAGES = 16  # most steering messages that the agent has not read
CANCEL_RETRY_SECONDS = 30.0  # time until the cancellation is repeated for an agent that ignores it


class StopReason(Enum):
    """Reasons to stop a run before its end, each with the status and the error that the run ends with."""

    CANCEL = (Status.CANCELED, None)
    INTERRUPT = (Status.INCOMPLETE, Error("interrupted", "the run was interrupted"))
    DEADLINE = (Status.FAILED, Error("deadline_exceeded", "the run exceeded its time limit"))
    READER_GONE = (Status.CANCELED, Error("reader_gone", "the foreground run had no reader for too long"))
    PARENT = (Status.CANCELED, Error("parent_ended", "the run that started this one has ended"))
    BUDGET = (Status.FAILED, None)  # the run's quotas supply the error
    # The process ends: the run gets no terminal event, and recovery decides at the next start.
    SHUTDOWN = (Status.UNKNOWN, None)


class Execution:
    """A live run and the task that executes its agent. Owned by the engine, on the event loop."""

    def __init__(
        self,
        run: LiveRun,
        app: AgentApp,
        *,
        host: AgentHost,
        stores: Stores,
        encoder: EventEncoder,
        reader_grace_seconds: float,
        sandboxes: CoreSandboxes,
        launch: StartChild,
        on_end: Callable[["Execution"], None],
        words: ErrorDisclosure,
        parent: "Execution | None" = None,
    ) -> None:
        self.run = run
        self.app = app
        self.parent = parent
        self.emitter = Emitter(run, encoder)
        self.children: ChildRuns = ChildRuns(run, None if parent is None else parent.children)
        self.readers = ReaderTracker(
            run, reader_grace_seconds, partial(self.request_stop, StopReason.READER_GONE)
        )
        self._host = host
        self._on_end = on_end
        self._words = words
        self._stop: StopReason | None = None
        self._answers = ReceivedInput(encoder)
        self._untaken_input: list[Message] = []
        self._taken_up = False
        # Set while this run or a descendant waits for an answer and no agent task exists; reads its output.
        self._paused_output: Callable[[], Awaitable[Recovered]] | None = None
        self._asker: asyncio.Task[object] | None = None
        self._answer: asyncio.Future[Sequence[Message]] | None = None
        self._deadlines: list[asyncio.TimerHandle] = []
        self._time_left = run.start.timeout
        self._timed_from = 0.0
        self._task: asyncio.Task[None] | None = None
        # The run belongs to its caller's trace, also when the end of another run starts it.
        self._caller = contextvars.copy_context()
        self._entered = False
        self._ended = asyncio.Event()
        self._output: Sequence[Message] = ()
        self._again: asyncio.TimerHandle | None = None
        request = run.start.request
        owner, session_id = run.session
        tenant = tenant_of(owner)
        quotas = run.budget_tracker
        self._sandboxes = SandboxesOfRun(
            sandboxes, owner, session_id, lambda: None if quotas is None else quotas.seconds_left
        )
        if quotas is not None:
            quotas.over = partial(self.request_stop, StopReason.BUDGET)
            quotas.changed = run.change_record
        results = ContextResults(stores, run)
        self.context = Context(
            run_id=run.run_id,
            request=request,
            attempt=run.attempt,
            state=ContextState(stores.states, run),
            session=ContextSession(stores.sessions, encoder, run),
            memory=ContextMemory(stores.memories, owner, session_id),
            agent_memory=ContextMemory(stores.memories, owner_key(tenant, f"{AGENT_PREFIX}{app.name}"), ""),
            ask=self._ask,
            take_input=self._take_input,
            loop=asyncio.get_running_loop(),
            results=results,
            once=OnceCalls(run.run_id, results),
            sandboxes=self._sandboxes,
            start_run=ChildRunStarter(run, encoder, launch, self.children),
        )

    @property
    def owner(self) -> str:
        """The user with its tenant, as the stores know it."""
        return self.run.start.owner

    @property
    def started(self) -> bool:
        """Whether the agent has begun in this process."""
        return self._task is not None

    @property
    def paused(self) -> bool:
        """Whether this run or one of its child runs waits for an answer."""
        return self._paused_output is not None or (self._answer is not None and not self._answer.done())

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to stop."""
        return self._stop is not None

    def start(self) -> None:
        """Start the agent."""
        self.emitter.started()
        self.run.said_from = self.run.next_sequence_number
        self._task = asyncio.create_task(self._seen(), name=self.run.run_id, context=self._caller)

    def resume_recovered(self, answers: bytes, asleep: Callable[[], Awaitable[Recovered]] | None) -> None:
        """Prepare a run of an earlier process; earlier answers are repeated without asking again.

        Args:
            answers: The recorded answers, encoded.
            asleep: Reads the recorded output. Set if a question of this run or of a child run is open: the
                agent is executed once the question is answered.
        """
        self._taken_up = True
        self._answers.load(answers)
        self._untaken_input = list(self._answers.steered)
        self._paused_output = asleep

    def request_stop(self, stop: StopReason, metadata_json: str = "") -> None:
        """Ask the agent to stop. The first reason holds, except that any other reason replaces INTERRUPT."""
        if self.run.status.terminal:
            return
        if self._paused_output is not None and stop is not StopReason.SHUTDOWN:
            self._stop = stop
            self.run.cancel_metadata_json = metadata_json
            self._task = asyncio.create_task(self._end_asleep(self._paused_output), name=self.run.run_id)
            self._paused_output = None
        elif not self.started and stop is not StopReason.SHUTDOWN:
            self.run.cancel_metadata_json = metadata_json
            self._finish_unstarted(stop)
        elif self._stop is None or (self._stop is StopReason.INTERRUPT and stop is not StopReason.INTERRUPT):
            self._stop = stop
            self.run.cancel_metadata_json = metadata_json
            said = orjson.loads(metadata_json) if metadata_json else {}
            self.context.stop(
                interrupt=stop is StopReason.INTERRUPT, metadata=said, restarting=stop is StopReason.SHUTDOWN
            )
            # A task cancelled before its first step never runs, so it could not end the run.
            if self._entered:
                self._cancel()

    def _cancel(self) -> None:
        """Cancel the agent, and repeat it until the agent ends: some agents swallow the cancellation.

        An interrupted agent is cancelled once: it may emit final output.
        """
        self._sandboxes.cancel()
        if self._stop is not StopReason.SHUTDOWN:
            self.children.stop()

        # The task that asks a question may differ from the agent's task, for example on behalf of a thread.
        # A task that exceeded the budget is the current one: it gets an exception, and no cancellation while
        # it cleans up.
        for task in {self._task, self._asker} - {asyncio.current_task()}:
            if task is not None:
                task.cancel()
        if self._stop is not StopReason.INTERRUPT:
            self._again = asyncio.get_running_loop().call_later(CANCEL_RETRY_SECONDS, self._cancel)

    async def wait_stopped(self) -> None:
        """Return when the agent has ended."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def _finish_unstarted(self, stop: StopReason) -> None:
        """End a run that still waits in a queue."""
        self._stop = stop
        status, error = stop.value
        self._finish(status, error)
        self._leave()

    async def _end_asleep(self, recover: Callable[[], Awaitable[Recovered]]) -> None:
        """End a run whose agent is not executing; keep its recorded output."""
        await self.children.wait_all_stopped()
        try:
            self.emitter.recover(await recover())
        except Exception:
            log.exception("the recorded output of run %s cannot be read", self.run.run_id)
        if self._stop is not None and self._stop is not StopReason.SHUTDOWN:
            self._finish(*self._stop.value)
            self._leave()

    def detach_from_parent(self) -> None:
        """Stop, because the parent run stops."""
        self.request_stop(StopReason.PARENT)

    def fail_before_start(self) -> None:
        """End a run whose start failed."""
        self.emitter.discard()
        self._finish(Status.FAILED, Error("AGENT_UNKNOWN_ERROR", "the run could not be started"))
        self._leave()

    def resume(self, request_id: str, answer: Sequence[Message]) -> None:
        """Record the answer to the open question and give it to the agent.

        If no agent task exists, the caller then calls `begin`.

        Raises:
            RunNotPaused: No question or another question is open.
            Draining: The core is shutting down.
        """
        ask = self.run.ask
        if self._stop is StopReason.SHUTDOWN:
            raise Draining  # the agent is ending and would not use the answer
        if not self.paused or self._stop is not None or ask is None:
            raise RunNotPaused(self.run.run_id)
        if request_id and request_id != ask.id:
            raise RunNotPaused(self.run.run_id, f"the open input request is {ask.id}")
        self.run.answers_payload = self._answers.add(answer)
        self.emitter.resumed(answer)
        if self._answer is not None:
            self._answer.set_result(answer)
            return
        self.resume_waiting()

    @property
    def waits_for_child(self) -> bool:
        """Whether the agent is executed once a child run is answered."""
        return self._paused_output is not None and self.run.ask is None

    def resume_waiting(self) -> None:
        """Prepare another attempt; the caller then calls `begin`."""
        self._paused_output = None
        self.run.attempt = self.context.attempt = self.run.attempt + 1
        self.run.repeated_answers = 0

    def steer(self, told: Sequence[Message]) -> None:
        """Queue messages until the agent reads them; the run's record keeps them until the run ends.

        Raises:
            RunTerminal: The run has ended or is stopping.
            LimitExceeded: The agent has too many messages it has not read.
        """
        if self.run.status.terminal or self._stop is not None:
            raise RunTerminal(self.run.run_id, self.run.status.value)
        if len(self._untaken_input) + len(told) > MAX_UNTAKEN_MESSAGES:
            raise LimitExceeded(
                "steered_messages",
                f"the agent has {len(self._untaken_input)} unread messages; try again later",
            )
        self.run.answers_payload = self._answers.add_steering(told)
        self._untaken_input += told
        self.run.change_record()

    async def _take_input(self) -> Sequence[Message]:
        told, self._untaken_input = self._untaken_input, []
        if told:
            self.emitter.steered(told)
            await self.emitter.drain()
        return told

    async def _ask(self, request: InputRequest) -> Sequence[Message]:
        if self._asker is not None:
            raise RuntimeError("the run already has an open question; ask one question at a time")
        if self.run.status.terminal or self._stop is not None:
            raise RuntimeError("the run has ended or is stopping; it cannot ask a question")
        if not self._answers.is_repeat:
            self._check_pause()
        remembered = self._answers.mark_delivered
        self.emitter.deliver_received_input(remembered=remembered)
        if self._answers.is_repeat:
            self.emitter.repeated()
            return self._answers.repeat()
        self._pause_deadline()
        schema = "" if request.schema is None else orjson.dumps(request.schema).decode()
        self._asker = asyncio.current_task()
        self._answer = asyncio.get_running_loop().create_future()
        try:
            # An empty answer marks an open question: a later attempt learns from it what the session has.
            self.run.answers_payload = self._answers.question()
            ask = PendingInput(request.id, request.prompt, schema, request.kind)
            self.emitter.paused(ask, remembered=remembered)
            async with lend_slot():
                await self._answer
            return self._answers.repeat()
        except asyncio.CancelledError:
            if self._stop is None and self.run.ask is not None and not self.run.status.terminal:
                self.emitter.input_withdrawn()  # the agent stopped waiting and continues
            raise
        finally:
            self._answer = self._asker = None
            self._arm_deadline()

    def _check_pause(self) -> None:
        """Raise AgentError if this run or an ancestor may not pause: a restart would end it."""
        place: Execution | None = self
        while place is not None:
            if place.app.on_restart == "fail":
                problem = (
                    f'the run cannot wait for an answer: agent {place.app.name!r} has on_restart="fail", '
                    'so a restart of the core would end the run; omit on_restart or set it to "rerun"'
                )
                log.error("run %s of agent %r: %s", self.run.run_id, self.app.name, problem)
                raise AgentError(problem, code="pause_refused")
            place = place.parent

    async def _seen(self) -> None:
        log_ids.run_id.set(self.run.run_id)
        seen = self.emitter.spans = RunSpans.begun(self.run, self.app)
        try:
            await self._execute()
        finally:
            if seen is not None:
                seen.end()

    async def _execute(self) -> None:
        self._entered = True
        self._arm_deadline()
        status, error = Status.COMPLETED, None
        try:
            if self._stop is None:
                status, error = await self._outcome()
        finally:
            self._pause_deadline()
            if self._again is not None:
                self._again.cancel()
            if self._asker is not None:
                self._asker.cancel()
            if (
                self.children.has_any and self._stop is not StopReason.SHUTDOWN
            ):  # a shutdown stops them itself
                await self._wait_for(self.children.wait_all_stopped())
            self.children.stop()
            if self._stop is not None:
                await self._wait_for(self._leave_sandboxes())
        if self._stop is StopReason.SHUTDOWN:
            return
        if self._stop is not None:
            status, error = self._stop.value
        if self._stop is StopReason.BUDGET and self.run.budget_tracker is not None:
            error = self.run.budget_tracker.error()
        if self.run.budget_tracker is not None and self._stop is not StopReason.BUDGET:
            self.run.budget_tracker.exceeded = None  # the run was stopped for another reason
        try:
            self._finish(status, error)
        except Exception:
            # The open message cannot be encoded; the run must get a terminal event nevertheless.
            log.warning("the last message of run %s cannot be encoded", self.run.run_id, exc_info=True)
            self.emitter.discard()
            problem = "the agent's last message cannot be encoded"
            self._finish(Status.FAILED, Error("AGENT_UNKNOWN_ERROR", problem))
        self._leave()

    def _finish(self, status: Status, error: Error | None) -> None:
        """Write the terminal event; keep the output of a child run for its parent."""
        output = self.emitter.finish(status, error)
        if self.parent is not None:
            self._output = tuple(finished.message for finished in output)
        self._ended.set()

    def _leave(self) -> None:
        """Release what the ended run holds, and cut its reference cycles.

        Left to the garbage collector, the ended runs of 30 seconds would stop all others for half a second.
        """
        self._on_end(self)
        self.readers.end()
        if self.run.budget_tracker is not None:
            self.run.budget_tracker.end()
        del self.context

    async def result(self) -> RunResult:
        """Wait until the end of a child run is durable; return its result."""
        await self._ended.wait()
        run = self.run
        await run.wait_published(run.next_sequence_number - 1)
        return RunResult(run.run_id, run.status, self._output, run.error, run.usage)

    async def cancel(self) -> None:
        """Cancel the run; return when it has stopped and its end is durable."""
        self.request_stop(StopReason.CANCEL)
        await self.wait_stopped()
        if self.run.status.terminal:
            await self.run.wait_published(self.run.next_sequence_number - 1)

    async def _wait_for(self, ending: Coroutine[Any, Any, None]) -> None:
        """Await clean-up to its end; ignore cancellations meanwhile, because the run is already stopping."""
        task = asyncio.create_task(ending)
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        task.result()

    async def _leave_sandboxes(self) -> None:
        try:
            await self._sandboxes.end()
        except Exception:
            log.warning("calls of run %s in its sandbox may still run", self.run.run_id, exc_info=True)

    async def _outcome(self) -> tuple[Status, Error | None]:
        try:
            if self._taken_up:
                await self.emitter.drain()  # the attempt is recorded before it can bring the core down
            await self._host.execute(self.app, self.context, self.emitter)
        except asyncio.CancelledError:
            if self._stop is None:
                # The agent cancelled itself; the timeouts of some libraries do so.
                return Status.FAILED, Error("AGENT_UNKNOWN_ERROR", "the agent was cancelled from within")
        except BaseException as error:
            stopping = self._stop is not None
            told = self._words.status_and_error(error, self.app.name, self.run.run_id, stopping=stopping)
            error.__traceback__ = None  # its frames refer to the error: a reference cycle
            return failure_status(told)
        return Status.COMPLETED, None

    def _arm_deadline(self) -> None:
        if self._deadlines:
            return
        loop = asyncio.get_running_loop()
        quotas = self.run.budget_tracker
        if self._time_left is not None:
            self._timed_from = time.monotonic()
            late = partial(self.request_stop, StopReason.DEADLINE)
            self._deadlines.append(loop.call_later(max(self._time_left, 0), late))
        if quotas is not None:
            quotas.start_clock()
            if quotas.seconds_left is not None:
                self._deadlines.append(loop.call_later(quotas.seconds_left, quotas.exceed_wall_time))

    def _pause_deadline(self) -> None:
        if self._deadlines and self._time_left is not None:
            self._time_left -= time.monotonic() - self._timed_from
        for timer in self._deadlines:
            timer.cancel()
        self._deadlines.clear()
        if self.run.budget_tracker is not None:
            self.run.budget_tracker.stop_clock()
