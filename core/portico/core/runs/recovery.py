"""Recovery: decides at start how the unfinished runs of an earlier process continue."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from portico.agent import AgentApp, Error, Status
from portico.core.budgets import BudgetTracker
from portico.core.errors import AgentNotFound
from portico.core.execution.emitter import Emitter
from portico.core.hosts.base.agent_host import AgentHost
from portico.core.log.encoding import EventEncoder, Recovered
from portico.core.log.live_run import CommitQueue, LiveRun
from portico.core.stores.ports.stores import Chunk, RunLog, RunRecord

MAX_ATTEMPTS = 5  # bounds the attempts of an agent that brings the core down each time
READ_BYTES = 1024 * 1024
CORE_RESTARTED_ERROR = Error("core_restarted", "the core stopped while the run was executing")


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """An unfinished run of an earlier process."""

    record: RunRecord
    parent_run_id: str
    waits: bool  # the run or a descendant waits for an answer

    @property
    def has_started(self) -> bool:
        """Whether the run's agent was executed."""
        return self.record.status in (Status.IN_PROGRESS, Status.INPUT_REQUIRED)


@dataclass(frozen=True, slots=True)
class RecoveredRun:
    """A recovered run that continues."""

    run: LiveRun
    app: AgentApp
    left: UnfinishedRun


class Recovery:
    """Decides for each unfinished run whether it is executed (again) or fails."""

    def __init__(self, host: AgentHost, runs: RunLog, encoder: EventEncoder, committer: CommitQueue) -> None:
        self._host = host
        self._runs = runs
        self._encoder = encoder
        self._committer = committer

    async def find_unfinished(self) -> Sequence[UnfinishedRun]:
        """Return the unfinished runs in the order in which they are taken up.

        Paused runs come first, because they keep their places in the scheduler; a run comes before its child
        runs.
        """
        records = await self._runs.unfinished()
        parents = {record.run_id: self._encoder.load_parent(record.summary) for record in records}
        waiting: set[str] = set()
        for record in records:
            run_id = record.run_id if record.status == Status.INPUT_REQUIRED else ""
            while run_id in parents and run_id not in waiting:
                waiting.add(run_id)
                run_id = parents[run_id]
        left = [UnfinishedRun(record, parents[record.run_id], record.run_id in waiting) for record in records]
        return sorted(left, key=lambda each: not each.waits)

    async def recover(self, left: UnfinishedRun, parent: LiveRun | None) -> RecoveredRun | None:
        """Recover a run: it stays paused or is executed from its start; else write its failure.

        Args:
            left: The unfinished run.
            parent: The run that started it, if that was recovered as paused.

        Returns:
            The recovered run; None if it has failed.
        """
        record = left.record
        run = await self._run(record, None if parent is None else parent.budget_tracker)
        try:
            app = self._host.find(record.agent_name)
        except AgentNotFound:
            await self._fail(
                run, Error("agent_gone", f"the core no longer serves agent {record.agent_name!r}")
            )
            return None
        taken = RecoveredRun(run, app, left)
        if left.parent_run_id and not (left.waits and parent is not None):
            # A parent that is executed again starts its child runs again.
            await self._fail(run, CORE_RESTARTED_ERROR)
            return None
        if left.waits or not left.has_started:
            return taken
        answered = sum(1 for answer in self._encoder.load_answers(record.answers) if answer)
        # Each answer may have caused an attempt without a crash.
        if app.on_restart == "rerun" and run.attempt < MAX_ATTEMPTS + answered:
            run.attempt += 1
            return taken
        await self._fail(run, CORE_RESTARTED_ERROR)
        return None

    async def read_output(self, run_id: str) -> Recovered:
        """Read the recorded output of a run that is not executing."""
        chunks: list[Chunk] = []
        cursor = -1
        while more := await self._runs.read(run_id, cursor, READ_BYTES):
            chunks += more
            cursor = more[-1].last
        return self._encoder.recover(chunks)

    async def _run(self, record: RunRecord, above: BudgetTracker | None) -> LiveRun:
        last = await self._runs.last(record.run_id)
        run = LiveRun(
            record.run_id,
            replace(
                self._encoder.load_request(record.request, record.user_id).for_agent(record.agent_name),
                ephemeral=record.ephemeral,
            ),
            self._committer,
            created_at=record.created_at,
            attempt=record.attempt,
            next_sequence_number=0 if last is None else last.last + 1,
            quotas=self._quotas(record, above),
        )
        run.status = Status(record.status)
        run.record = record
        run.answers_payload = record.answers
        if run.status is Status.INPUT_REQUIRED:
            run.ask, run.repeated_answers = self._encoder.load_pending_input(record.summary)
            run.status_at = record.updated_at
            run.paused_at = run.published
        return run

    def _quotas(self, record: RunRecord, above: BudgetTracker | None) -> BudgetTracker | None:
        found = self._encoder.load_budget(record.summary)
        if found is None:
            return None
        budget, used = found
        if record.status == Status.IN_PROGRESS:
            # The end of the earlier process is unknown: count the time until now.
            used = used._replace(wall_time=used.wall_time + max(time.time() - record.updated_at, 0.0))
        return BudgetTracker(budget, used, above)

    async def _fail(self, run: LiveRun, error: Error) -> None:
        """Write the terminal event of a run that is not executed again; keep its recorded output."""
        emitter = Emitter(run, self._encoder)
        emitter.recover(await self.read_output(run.run_id))
        emitter.finish(Status.FAILED, error)
        await run.wait_published(run.next_sequence_number - 1)
