"""The interfaces of the core's stores, as protocols, and the records that they read and write.

Payloads (requests, responses, messages) are opaque bytes: the callers encode
and decode them. Times are in seconds since the Unix epoch. Every method is safe
to call concurrently from one event loop, and raises StoreUnavailable when the
store can't be reached, is full or is read-only.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypedDict

from portico.core.errors import StoreUnavailable
from portico.core.stores.ports.api_keys import KeyStore
from portico.core.stores.ports.memory_filters import MATCH_ALL, MetadataFilter
from portico.core.stores.ports.push_configs import PushStore
from portico.core.stores.ports.run_results import ResultStore
from portico.core.stores.ports.store_health import StoreHealth
from portico.core.stores.ports.stored_sizes import SizeStore
from portico.core.stores.storage_quota import StorageQuota

# Prefix of idempotency keys that clients generate for retries within seconds. The engine keeps them in
# memory and does not look them up in the store.
AUTO_PREFIX = "auto:"
OWNERSHIP_CHECK_SECONDS = 1.0  # interval at which an idle core checks that it still owns its stores


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The current state of a run. `summary` is its encoded response without output."""

    run_id: str
    agent_name: str
    user_id: str
    session_id: str
    status: str  # a status of the agent protocol, such as in_progress
    created_at: float
    updated_at: float  # when the run entered its status
    last_sequence_number: int
    attempt: int
    background: bool
    idempotency_key: str | None
    request: bytes  # the encoded QueryRequest
    summary: bytes
    answers: bytes = b""  # the encoded answers to input requests so far
    ephemeral: str = ""  # deleted soon after the run's end: "" nothing, "run", or "session" (the run too)


class Chunk(NamedTuple):
    """Consecutive events of a run, encoded as a frame (QueryResponse). A store may join several into one."""

    run_id: str
    first: int
    last: int
    data: bytes


class NewSession(NamedTuple):
    """The session in which a run starts. Created unless it exists."""

    user_id: str
    session_id: str
    created_at: float


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to append to a session. Dropped if the session has its id already, or does not exist."""

    user_id: str
    session_id: str
    message_id: str
    role: str
    text: str  # searchable text
    payload: bytes
    created_at: float
    run_id: str = ""
    type: str = "message"  # a message type of the agent protocol


@dataclass(frozen=True, slots=True)
class Commit:
    """The content of one transaction.

    Messages are written to sessions that exist or that this commit creates; a session
    deleted in the meantime stays deleted. Committing twice has the effect of committing
    once, because after a failure it is unknown whether the transaction was written.
    """

    runs: Sequence[RunRecord] = ()  # replace the stored records, except for the request, which never changes
    chunks: Sequence[Chunk] = ()  # in order per run, within a commit and across commits
    messages: Sequence[NewMessage] = ()
    sessions: Sequence[NewSession] = ()


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Conditions on runs: each that is set must match. Time ranges are half-open."""

    agent_name: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    statuses: Sequence[str] = ()
    created_from: float | None = None
    created_until: float | None = None
    status_from: float | None = None  # earliest time at which the run entered its status (updated_at)


class RunLog(Protocol):
    """Store of runs and their events."""

    async def commit(self, commit: Commit) -> None:
        """Write everything or nothing. After the return it survives a crash of the process."""
        ...

    async def get(self, run_id: str) -> RunRecord:
        """Return a run. Raises RunNotFound."""
        ...

    async def get_by_idempotency_key(self, user_id: str, key: str) -> RunRecord | None:
        """Return the oldest run with the idempotency key. The engine, not the log, keeps keys unique."""
        ...

    async def list(
        self, where: RunFilter, before: tuple[float, str] | None, limit: int, *, by_status: bool = False
    ) -> Sequence[RunRecord]:
        """List runs that are not ephemeral, newest first.

        Args:
            where: Conditions on the runs.
            before: Position of the last run of the previous page; only runs strictly before it are listed.
            limit: The most runs to return.
            by_status: Order by (updated_at, run_id) in place of (created_at, run_id).
        """
        ...

    async def count(self, where: RunFilter) -> int:
        """Return how many runs `list` finds over all pages."""
        ...

    async def read(self, run_id: str, after: int, max_bytes: int) -> Sequence[Chunk]:
        """Return, in order, the chunks with events whose sequence numbers are greater than `after`.

        At least one chunk if any exists, and in total not much more than `max_bytes`. The first
        chunk may begin at or before `after`.
        """
        ...

    async def last(self, run_id: str) -> Chunk | None:
        """Return the chunk with the run's last event."""
        ...

    async def recent_keys(self, prefix: str, since: float) -> Sequence[RunRecord]:
        """Return the runs created at `since` or later whose idempotency key starts with the prefix."""
        ...

    async def unfinished(self) -> Sequence[RunRecord]:
        """Return the runs that have not ended, in order of arrival, which created_at may not reflect."""
        ...

    async def ephemeral_leftovers(self) -> Sequence[RunRecord]:
        """Return the ephemeral runs that have ended."""
        ...

    async def delete(self, run_id: str) -> None:
        """Delete a run and its events, not its session's messages. Raises RunNotFound."""
        ...

    async def delete_all(self, run_ids: Sequence[str]) -> int:
        """Delete several runs and their events; return how many of the runs existed."""
        ...

    async def of_user(self, user_id: str, limit: int) -> Sequence[str]:
        """Return up to `limit` ids of the user's runs, including ephemeral runs, in no order."""
        ...

    async def ended(self, before: float, limit: int) -> Sequence[str]:
        """Return up to `limit` ids of runs that ended before that time, in no order."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StateRecord:
    """One round of a session's state."""

    user_id: str
    session_id: str
    round_id: int
    state: str  # JSON text; empty in lists
    etag: str
    updated_at: float


class StateStore(Protocol):
    """Store of states, keyed by user, session, part and round.

    The agent's own state is the part with an empty name. Every other part, such as a framework's, belongs
    to its session: it can be saved only while the session exists, is deleted with it, and is not listed.
    """

    async def save(
        self,
        user_id: str,
        session_id: str,
        round_id: int | None,
        state: str,
        etag: str | None,
        part: str = "",
    ) -> StateRecord:
        """Save the state of a round.

        Args:
            user_id: Owner of the session.
            session_id: The session.
            round_id: The round to write; None means one more than the greatest, starting at 1.
            state: JSON text.
            etag: Expected etag, as in SaveStateRequest: that of the round, or without a round that of the
                latest one. "*" requires that the round, or any round, does not exist yet. None: no check.
            part: Part of the state; empty for the agent's own.

        Raises:
            EtagMismatch: The stored etag differs.
            SessionNotFound: The part has a name and the session does not exist.
        """
        ...

    async def get(self, user_id: str, session_id: str, round_id: int | None, part: str = "") -> StateRecord:
        """Return the state of a round; None means the greatest round. Raises StateNotFound."""
        ...

    async def list(
        self, user_id: str, session_id: str | None, after: tuple[str, int] | None, limit: int
    ) -> Sequence[StateRecord]:
        """List agents' own states without contents, by (session_id, round_id), strictly after `after`."""
        ...

    async def delete(
        self, user_id: str, session_id: str | None, round_id: int | None, part: str | None = None
    ) -> int:
        """Delete the matching states; None matches every session, round or part. Return how many rounds."""
        ...

    async def expire(self, before: float, limit: int) -> int:
        """Delete up to `limit` states saved before that time; return how many, 0 when none are left."""
        ...


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session without its messages."""

    user_id: str
    session_id: str
    created_at: float
    updated_at: float
    message_count: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a session."""

    session_id: str
    position: int  # increases within a session, from 1, with gaps
    message_id: str
    payload: bytes
    created_at: float
    run_id: str


@dataclass(frozen=True, slots=True)
class MessageHit:
    """A message that a search found; a higher score is a better match."""

    message: StoredMessage
    score: float


class SessionStore(Protocol):
    """Store of sessions and their messages, including those committed by the RunLog of the same URL."""

    async def create(self, user_id: str, session_id: str, metadata: str) -> SessionRecord:
        """Create a session. Raises SessionExists."""
        ...

    async def get(self, user_id: str, session_id: str) -> SessionRecord:
        """Return a session. Raises SessionNotFound."""
        ...

    async def update(self, user_id: str, session_id: str, metadata: str) -> SessionRecord:
        """Replace the metadata. Raises SessionNotFound."""
        ...

    async def list(
        self, user_id: str, before: tuple[float, str] | None, limit: int
    ) -> Sequence[SessionRecord]:
        """List the user's sessions by (updated_at, session_id), last used first, strictly before `before`."""
        ...

    async def delete(self, user_id: str, session_id: str, *, idle_since: float | None = None) -> None:
        """Delete a session with its messages and all parts of its state, at once.

        With `idle_since`, only if the session has not been used since that time.
        Raises SessionNotFound.
        """
        ...

    async def idle(self, before: float, after: SessionRecord | None, limit: int) -> Sequence[SessionRecord]:
        """List the sessions of all users that have not been used since `before`.

        In order of (updated_at, user_id, session_id), strictly after `after`; the records have no
        message count and no metadata.
        """
        ...

    async def append(
        self, user_id: str, session_id: str, messages: Sequence[NewMessage]
    ) -> Sequence[StoredMessage]:
        """Append messages; return those that were new, in order. Raises SessionNotFound."""
        ...

    async def messages(
        self, user_id: str, session_id: str, cursor: int | None, limit: int, descending: bool
    ) -> Sequence[StoredMessage]:
        """Return messages strictly beyond the cursor in the given direction. Raises SessionNotFound."""
        ...

    async def message(self, user_id: str, session_id: str, message_id: str) -> StoredMessage:
        """Return a message. Raises MessageNotFound."""
        ...

    async def remove(self, user_id: str, session_id: str, message_id: str) -> None:
        """Delete a message. Raises MessageNotFound."""
        ...

    async def fork(
        self,
        user_id: str,
        session_id: str,
        run_id: str,
        new_session_id: str,
        *,
        always: bool,
        before: str = "",
    ) -> bool:
        """Copy a session's messages, up to the last message of a run, into a new session, in order.

        Args:
            user_id: Owner of both sessions.
            session_id: The session to copy.
            run_id: The run with which the copy ends. A run without messages counts as the session's last.
            new_session_id: The session to create.
            always: Copy also when the run's last message is the session's last.
            before: Id of a message of the run: the copy ends before it, and is always made.

        Returns:
            Whether the copy was made.

        Raises:
            SessionNotFound: The session does not exist.
            MessageNotFound: The run has no message `before`.
        """
        ...

    async def search(
        self,
        user_id: str,
        query: str,
        session_id: str | None,
        limit: int,
        *,
        roles: Sequence[str] = (),
        types: Sequence[str] = (),
    ) -> Sequence[MessageHit]:
        """Find messages by their words, best match first.

        Args:
            user_id: Owner of the messages.
            query: Plain words, without operators.
            session_id: Search one session only; None searches all sessions of the user.
            limit: The most hits to return.
            roles: Message roles of the agent protocol; empty for any.
            types: Message types of the agent protocol; empty for any.
        """
        ...

    async def index_pending(self, limit: int = 2000) -> int:
        """Index up to `limit` new messages ahead of the next search; return how many."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A memory: a text that agents store for a user and find again by search."""

    memory_id: str
    user_id: str
    session_id: str
    text: str
    created_at: float
    metadata: str = ""  # a JSON object, or empty
    key: str = ""  # unique per user, or empty
    updated_at: float = 0.0  # when it was added or last changed
    expires_at: float | None = None  # from this time on no read returns it

    @property
    def size(self) -> int:
        """Bytes counted against a storage quota."""
        return len(self.text.encode()) + len(self.metadata.encode()) + len(self.key.encode())


class MemoryChanges(TypedDict, total=False):
    """New values for fields of a memory."""

    text: str
    metadata: str
    session_id: str
    expires_at: float | None
    updated_at: float


@dataclass(frozen=True, slots=True)
class MemoryHit:
    """A memory that a search found; a higher score is a better match."""

    memory: MemoryRecord
    score: float


class MemoryStore(Protocol):
    """Store of memories by user. Reads do not return an expired memory, even before it is deleted."""

    async def add(self, memories: Sequence[MemoryRecord]) -> Sequence[MemoryRecord]:
        """Add all memories or none; return them as stored.

        A memory whose id exists already is left out. A memory whose key its user has already used
        replaces the memory with that key, and keeps its id and created_at.
        """
        ...

    async def get(
        self, user_id: str, memory_id: str | None = None, *, key: str | None = None
    ) -> MemoryRecord:
        """Return a memory by its id or its key. Raises MemoryNotFound."""
        ...

    async def update(self, user_id: str, memory_id: str, changes: MemoryChanges) -> MemoryRecord:
        """Change a memory; return it as changed. Raises MemoryNotFound."""
        ...

    async def search(
        self,
        user_id: str,
        query: str,
        limit: int,
        session_id: str | None = None,
        filter: MetadataFilter = MATCH_ALL,
    ) -> Sequence[MemoryHit]:
        """Find memories by their words, best match first. The query is plain words, without operators."""
        ...

    async def list(
        self,
        user_id: str,
        session_id: str | None,
        before: tuple[float, str] | None,
        limit: int,
        *,
        filter: MetadataFilter = MATCH_ALL,
    ) -> Sequence[MemoryRecord]:
        """List memories by (created_at, memory_id), newest first, strictly before `before`."""
        ...

    async def delete(
        self,
        user_id: str,
        session_id: str | None,
        memory_id: str | None,
        *,
        key: str | None = None,
        filter: MetadataFilter = MATCH_ALL,
    ) -> int:
        """Delete the memories that match all conditions, including expired ones; return how many."""
        ...

    async def expire(self, before: float, limit: int) -> int:
        """Delete up to `limit` memories last changed before a time; return how many, 0 when none are left."""
        ...

    async def remove_expired(self, now: float, limit: int) -> int:
        """Delete up to `limit` memories expired at `now`; return how many, 0 when none are left."""
        ...


@dataclass(frozen=True, slots=True)
class Stores:
    """All stores of one URL. The caller that opened them closes them."""

    runs: RunLog
    states: StateStore
    sessions: SessionStore
    memories: MemoryStore
    pushes: PushStore
    results: ResultStore
    keys: KeyStore
    sizes: SizeStore
    quota: StorageQuota | None = None  # enforces the storage limits, if any are set
    release: Callable[[], Awaitable[None]] | None = None  # closes what the stores share, before the log
    scrub: Callable[[], Awaitable[None]] | None = None  # erases the remains of deleted data
    health: StoreHealth = field(default_factory=StoreHealth)
    owned: Callable[[], Awaitable[None]] | None = None  # raises FencedOut if another core owns the stores
    lost: asyncio.Event = field(default_factory=asyncio.Event)  # set after a call has raised FencedOut

    async def erase(self) -> None:
        """Erase every byte of data deleted before this call. Raises StoreUnavailable when that fails."""
        if self.scrub is not None:
            await self.scrub()

    async def taken_over(self) -> None:
        """Return when another core owns the stores; checked every OWNERSHIP_CHECK_SECONDS."""
        while not self.lost.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.lost.wait(), OWNERSHIP_CHECK_SECONDS)
            if self.owned is not None:
                with suppress(StoreUnavailable):  # FencedOut, a subclass, sets `lost`
                    await self.owned()

    async def close(self) -> None:
        """Close all stores; safe to repeat. Later calls to them raise StoreUnavailable."""
        if self.release is not None:
            await self.release()
        await self.runs.close()
