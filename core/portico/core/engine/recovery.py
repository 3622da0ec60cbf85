"""Recovery: what becomes, at start, of the runs that an earlier process left unfinished."""

import time
from dataclasses import replace

from portico.agent import AgentApp, Error, Status
from portico.core.engine.budgets import Quotas
from portico.core.engine.emitter import Emitter
from portico.core.engine.encoding import EventEncoder
from portico.core.engine.host import AgentHost
from portico.core.engine.live import Committer, LiveRun
from portico.core.errors import AgentNotFound
from portico.core.stores.base import Chunk, RunLog, RunRecord

MAX_ATTEMPTS = 5  # an agent that brings the core down each time is not executed for ever
READ_BYTES = 1024 * 1024
_RESTARTED = Error("core_restarted", "the core stopped while the run was executed")


class Recovery:
    """Decides for each run whether it is executed, perhaps again, or has failed."""

    def __init__(self, host: AgentHost, runs: RunLog, encoder: EventEncoder, committer: Committer) -> None:
        self._host = host
        self._runs = runs
        self._encoder = encoder
        self._committer = committer

    async def take_up(self, record: RunRecord) -> tuple[LiveRun, AgentApp] | None:
        """The run and its agent, to be executed from the start; None if it has failed, which is written."""
        run = await self._run(record)
        try:
            app = self._host.find(record.agent_name)
        except AgentNotFound:
            await self._fail(
                run, Error("agent_gone", f"the core serves no agent {record.agent_name!r} any more")
            )
            return None
        if run.start.parent_run_id:
            # If its parent is executed again, that starts what it needs.
            await self._fail(run, _RESTARTED)
            return None
        if run.status in (Status.CREATED, Status.QUEUED):
            return run, app  # this attempt has not begun
        if app.on_restart == "rerun" and run.attempt < MAX_ATTEMPTS:
            run.attempt += 1
            return run, app
        await self._fail(run, _RESTARTED)
        return None

    async def _run(self, record: RunRecord) -> LiveRun:
        last = await self._runs.last(record.run_id)
        run = LiveRun(
            record.run_id,
            replace(
                self._encoder.load_request(record.request, record.user_id).to(record.agent_name),
                ephemeral=record.ephemeral,
            ),
            self._committer,
            created_at=record.created_at,
            attempt=record.attempt,
            next_sequence_number=0 if last is None else last.last + 1,
            quotas=self._quotas(record),
        )
        run.status = Status(record.status)
        run.record = record
        run.answers_payload = record.answers
        return run

    def _quotas(self, record: RunRecord) -> Quotas | None:
        found = self._encoder.load_budget(record.summary)
        if found is None:
            return None
        budget, used = found
        if record.status == Status.IN_PROGRESS:
            # Nobody knows when the earlier process ended.
            used = replace(used, wall_time=used.wall_time + max(time.time() - record.updated_at, 0.0))
        return Quotas(budget, used)

    async def _fail(self, run: LiveRun, error: Error) -> None:
        """Write the terminal event of a run that is not executed again; what it had produced is kept."""
        chunks: list[Chunk] = []
        cursor = -1
        while more := await self._runs.read(run.run_id, cursor, READ_BYTES):
            chunks += more
            cursor = more[-1].last
        emitter = Emitter(run, self._encoder)
        emitter.recover(self._encoder.recover(chunks))
        emitter.finish(Status.FAILED, error)
        await run.wait_published(run.next_sequence_number - 1)
