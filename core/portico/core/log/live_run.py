"""Live run: the growing end of a run's log, in memory.

Owned by the event loop. The agent's host appends events; the committer takes them and publishes them once
they are in the store; readers see only published events. Memory is bounded on both sides: an agent too far
ahead of the store waits, and a reader behind the ring reads from the store.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from portico.core.budgets import BudgetTracker
from portico.core.errors import StoreUnavailable
from portico.core.log.encoding import PendingInput, RunRequest, RunSnapshot
from portico.core.stores.ports.stores import Chunk, NewMessage, RunRecord
from portico.model.messages import Error, Status, Usage

PENDING_EVENTS = 512  # an agent this far ahead of the store waits
PENDING_BYTES = 256 * 1024
RECENT_BYTES = 256 * 1024  # size of the published end that stays in memory
CHUNK_BYTES = 256 * 1024  # only a chunk with one event is larger: a reader holds a whole chunk


class CommitQueue(Protocol):
    """Makes the pending changes of live runs durable."""

    def add(self, run: "LiveRun") -> None:
        """Include the run's pending changes in the next commit."""
        ...


class LiveRun:
    """State of a run that has not ended, or whose end is not committed yet."""

    def __init__(
        self,
        run_id: str,
        start: RunRequest,
        committer: CommitQueue,
        *,
        created_at: float,
        attempt: int = 1,
        next_sequence_number: int = 0,
        quotas: BudgetTracker | None = None,
    ) -> None:
        self.run_id = run_id
        self.start = start
        self.created_at = created_at
        # On the monotonic clock; for a recovered run, derived from dates.
        self.begun = time.monotonic() - max(time.time() - created_at, 0.0)
        self.updated_at = created_at
        self.attempt = attempt
        self.status = Status.CREATED
        self.status_at = round(created_at, 6)  # start of the status, rounded as in the event
        self.error: Error | None = None
        self.completed_at: float | None = None
        self.usage: Usage | None = None
        self.budget_tracker = quotas  # if the run has a budget
        self.ask: PendingInput | None = None
        self.cancel_metadata_json = ""  # metadata of the cancellation
        self.answers_payload = b""  # answers so far, encoded
        self.repeated_answers = 0  # answers of earlier attempts that this attempt got
        self.task: asyncio.Task[None] | None = None
        self.published = next_sequence_number - 1
        self._first = next_sequence_number
        self.record: RunRecord | None = None  # the record last committed
        self.said_from: int | None = None  # number of the agent's first event, until that is in the log
        self.refusal: StoreUnavailable | None = None  # why readers do not wait longer for the first event
        self.is_terminal_durable = False  # whether the terminal event is published
        self.paused_at: int | None = (
            None  # number of the published input_required event, while it is the last
        )
        self._next = next_sequence_number
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._messages: list[NewMessage] = []
        self._record_changed = False
        self.changes = 0  # number of changes of the record
        self._taken_changes = 0
        self.recorded = 0  # number of these changes that are in the log
        self._queued = False
        self._ring: deque[Chunk] = deque()
        self._ring_bytes = 0
        self._subscribers: set[Callable[[], None]] = set()
        self._committer = committer

    @property
    def session(self) -> tuple[str, str]:
        """(owner, session id): the key of the session in the stores."""
        return self.start.owner, self.start.request.session_id

    @property
    def next_sequence_number(self) -> int:
        """Number of the next event."""
        return self._next

    @property
    def was_recovered(self) -> bool:
        """Whether the log has only events of an earlier process so far."""
        return self.published < self._first

    @property
    def needs_drain(self) -> bool:
        """Whether the agent is too far ahead of the store."""
        return len(self._pending) >= PENDING_EVENTS or self._pending_bytes >= PENDING_BYTES

    def snapshot(self) -> RunSnapshot:
        """The present state of the run, for a response event."""
        request = self.start.request
        quotas = self.budget_tracker
        return RunSnapshot(
            run_id=self.run_id,
            status=self.status,
            error=self.error,
            created_at=self.created_at,
            completed_at=self.completed_at,
            usage=self.usage,
            session_id=request.session_id,
            user_id=request.user_id,
            agent_name=request.agent_name,
            attempt=self.attempt,
            pending_input=self.ask,
            metadata_json=self.start.metadata_json,
            status_at=self.status_at,
            cancel_metadata_json=self.cancel_metadata_json,
            repeated_answers=self.repeated_answers,
            budget=None if quotas is None else quotas.budget,
            used=None if quotas is None else quotas.used(),
            parent_run_id=self.start.parent_run_id,
        )

    def append(self, event: bytes) -> int:
        """Add an encoded event with number `next_sequence_number`; returns that number."""
        number = self._next
        self._next = number + 1
        self._pending.append(event)
        self._pending_bytes += len(event)
        if not self._queued:
            self._queued = True
            self._committer.add(self)
        return number

    def add_message(self, message: NewMessage) -> None:
        """Add a message to the session, with the next commit."""
        self._messages.append(message)

    def change_record(self) -> None:
        """Write the run's record with the next commit."""
        self._record_changed = True
        self.changes += 1
        if not self._queued:
            self._queued = True
            self._committer.add(self)

    def take_pending(self) -> tuple[Sequence[Chunk], bool, list[NewMessage]]:
        """Take the pending changes for a commit: chunks, whether the record changed, session messages."""
        chunks: Sequence[Chunk] = ()
        if self._pending:
            first = self._next - len(self._pending)
            pending = self._pending
            if self._pending_bytes > CHUNK_BYTES:
                chunks = list(_chunks(self.run_id, first, pending))
            else:
                data = pending[0] if len(pending) == 1 else b"".join(pending)
                chunks = (Chunk(self.run_id, first, self._next - 1, data),)
            self._pending = []
            self._pending_bytes = 0
        changed, self._record_changed = self._record_changed, False
        self._taken_changes = self.changes
        messages, self._messages = self._messages, []
        self._queued = False
        return chunks, changed, messages

    def publish(self, chunks: Sequence[Chunk], status: Status, record: RunRecord | None, at: float) -> None:
        """Show committed events to readers.

        Args:
            chunks: The committed events.
            status: Status of the run at that commit.
            record: The record as committed, None if it was not part of the commit.
            at: Time of the commit, in seconds since the epoch.
        """
        if record is not None:
            self.record = record
            self.recorded = self._taken_changes
        for chunk in chunks:
            self.published = chunk.last
            self._ring.append(chunk)
            self._ring_bytes += len(chunk.data)
            while self._ring_bytes > RECENT_BYTES:
                self._ring_bytes -= len(self._ring.popleft().data)
        if chunks:
            self.updated_at = at
            self.is_terminal_durable = status.terminal
            self.paused_at = self.published if status is Status.INPUT_REQUIRED else None
        for notify in tuple(self._subscribers):
            notify()
        if self.is_terminal_durable:
            self._subscribers.clear()

    def report_store_failure(self, failure: StoreUnavailable) -> None:
        """Tell waiters that the store rejects the run's acceptance for now; it may still be written later."""
        if self.published < 0:
            self.refusal = failure
            for notify in tuple(self._subscribers):
                notify()

    def recent_chunks(self, after: int) -> list[Chunk] | None:
        """Published chunks with events after number `after`; None if only the store has them."""
        ring = self._ring
        if not ring or after + 1 < ring[0].first:
            return [] if after >= self.published else None
        # Fast path: most readers are at the end.
        newest = ring[-1]
        if newest.first == after + 1:
            return [newest]
        chunks = []
        for chunk in reversed(ring):
            if chunk.last <= after:
                break
            chunks.append(chunk)
        chunks.reverse()
        return chunks

    def subscribe(self, notify: Callable[[], None]) -> None:
        """Call `notify` after each publication; it must neither raise nor wait."""
        self._subscribers.add(notify)

    def unsubscribe(self, notify: Callable[[], None]) -> None:
        self._subscribers.discard(notify)

    async def wait_published(self, number: int) -> None:
        """Return once the event is durable and visible."""
        await self.wait_until(lambda: self.published >= number)

    async def wait_until(self, done: Callable[[], bool]) -> None:
        """Return once `done()` is true; it is checked after each publication."""
        if done():
            return
        arrived = asyncio.Event()
        self.subscribe(arrived.set)
        try:
            while not done():
                arrived.clear()
                await arrived.wait()
        finally:
            self.unsubscribe(arrived.set)


def _chunks(run_id: str, first: int, events: Sequence[bytes]) -> Iterator[Chunk]:
    """Split events into chunks of at most CHUNK_BYTES, with at least one event each."""
    gathered: list[bytes] = []
    size = 0
    for event in events:
        if gathered and size + len(event) > CHUNK_BYTES:
            yield Chunk(run_id, first, first + len(gathered) - 1, b"".join(gathered))
            first += len(gathered)
            gathered = []
            size = 0
        gathered.append(event)
        size += len(event)
    yield Chunk(run_id, first, first + len(gathered) - 1, b"".join(gathered))
