"""What the core asks of a store. Implementations fit these protocols by shape.

Payloads (requests, responses, messages) are opaque bytes here: what is above
encodes them, a store keeps them. Times are seconds since the epoch. Every
method is safe to call concurrently from one event loop and raises
StoreUnavailable when the store can't be reached, full or read-only.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypedDict

from portico.core.errors import StoreUnavailable
from portico.core.stores.ports.api_keys import KeyStore
from portico.core.stores.ports.memory_filters import EVERY, MetadataFilter
from portico.core.stores.ports.push_configs import PushStore
from portico.core.stores.ports.run_results import ResultStore
from portico.core.stores.ports.store_health import StoreHealth
from portico.core.stores.ports.stored_sizes import SizeStore
from portico.core.stores.storage_quota import Room

# Keys that begin so are clients' own, for retries within seconds; they are not found by key.
AUTO_PREFIX = "auto:"
LOOK_SECONDS = 1.0  # how often an idle core looks whether another has its stores
UNFINISHED_STATUSES = ("created", "queued", "in_progress", "input_required")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as it stands. `summary` is its encoded response without output."""

    run_id: str
    agent_name: str
    user_id: str
    session_id: str
    status: str  # a word of the agent protocol, such as in_progress
    created_at: float
    updated_at: float  # when it took its status
    last_sequence_number: int
    attempt: int
    background: bool
    idempotency_key: str | None
    request: bytes  # the encoded QueryRequest
    summary: bytes
    answers: bytes = b""  # the encoded answers to input requests so far
    ephemeral: str = ""  # what goes soon after its end: nothing, the "run", or its "session" too


class Chunk(NamedTuple):
    """Consecutive events of a run, encoded as a frame (QueryResponse). A store may give several as one."""

    run_id: str
    first: int
    last: int
    data: bytes


class NewSession(NamedTuple):
    """A session that a run begins in, unless it is there."""

    user_id: str
    session_id: str
    created_at: float


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to append to a session. Dropped if the session has its id, or is gone."""

    user_id: str
    session_id: str
    message_id: str
    role: str
    text: str  # what search finds
    payload: bytes
    created_at: float
    run_id: str = ""
    type: str = "message"  # a word of the agent protocol


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction writes. Messages come into sessions that are there, or are made here: one that
    was deleted since stays so.

    To commit it twice is harmless: after a failure nobody knows how far it came.
    """

    runs: Sequence[RunRecord] = ()  # written over what is there; what was asked never changes
    chunks: Sequence[Chunk] = ()  # of one run in order, also from commit to commit
    messages: Sequence[NewMessage] = ()
    sessions: Sequence[NewSession] = ()


@dataclass(frozen=True, slots=True)
class RunFilter:
    """What is set must match; times are half open."""

    agent_name: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    statuses: Sequence[str] = ()
    created_from: float | None = None
    created_until: float | None = None
    status_from: float | None = None  # when the run took its status: its record's updated_at


class RunLog(Protocol):
    """Runs and their events."""

    async def commit(self, commit: Commit) -> None:
        """Write all of it or nothing; on return it survives a crash of the process."""
        ...

    async def get(self, run_id: str) -> RunRecord:
        """Raises RunNotFound."""
        ...

    async def get_by_idempotency_key(self, user_id: str, key: str) -> RunRecord | None:
        """The oldest run with the key: that keys are used once is the engine's care, not the log's."""
        ...

    async def list(
        self, where: RunFilter, before: tuple[float, str] | None, limit: int, *, by_status: bool = False
    ) -> Sequence[RunRecord]:
        """Newest first by (created_at, run_id), or by (updated_at, run_id) with `by_status`; strictly before
        the given pair; without ephemeral runs."""
        ...

    async def count(self, where: RunFilter) -> int:
        """How many runs `list` finds in all."""
        ...

    async def read(self, run_id: str, after: int, max_bytes: int) -> Sequence[Chunk]:
        """Chunks that hold events beyond `after`, in order: at least one if there is any, and no more than
        about `max_bytes`. The first may begin at or before `after`."""
        ...

    async def last(self, run_id: str) -> Chunk | None:
        """The chunk with the run's last event."""
        ...

    async def recent_keys(self, prefix: str, since: float) -> Sequence[RunRecord]:
        """Runs created since then whose idempotency key has the prefix."""
        ...

    async def unfinished(self) -> Sequence[RunRecord]:
        """Runs that have not ended, in the order in which they came, which dates need not tell."""
        ...

    async def left_over(self) -> Sequence[RunRecord]:
        """Ephemeral runs that have ended."""
        ...

    async def delete(self, run_id: str) -> None:
        """Remove the run and its events, not its session's messages. Raises RunNotFound."""
        ...

    async def delete_all(self, run_ids: Sequence[str]) -> int:
        """The same for many at once; how many there were."""
        ...

    async def of_user(self, user_id: str, limit: int) -> Sequence[str]:
        """Any runs of the user, ephemeral ones too."""
        ...

    async def ended(self, before: float, limit: int) -> Sequence[str]:
        """Runs that ended before that time, in no order."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StateRecord:
    user_id: str
    session_id: str
    round_id: int
    state: str  # JSON text; empty in lists
    etag: str
    updated_at: float


class StateStore(Protocol):
    """States by user, session, part and round.

    The agent's own state is the part with an empty name. Every other part, such as a framework's, lives in
    its session: it is saved only while the session exists, it goes with it, and no list shows it.
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
        """Without a round: the next after the greatest, from 1. The etag as in SaveStateRequest: with a
        round, that round's ("*": must not exist); without, the latest round's ("*": there is none).
        Raises EtagMismatch; SessionNotFound for a named part of a session that does not exist."""
        ...

    async def get(self, user_id: str, session_id: str, round_id: int | None, part: str = "") -> StateRecord:
        """Without a round: the greatest. Raises StateNotFound."""
        ...

    async def list(
        self, user_id: str, session_id: str | None, after: tuple[str, int] | None, limit: int
    ) -> Sequence[StateRecord]:
        """Agents' own, by (session_id, round_id), strictly after the given pair, without contents."""
        ...

    async def delete(
        self, user_id: str, session_id: str | None, round_id: int | None, part: str | None = None
    ) -> int:
        """Remove what fits; None fits every session, round or part. How many rounds were removed."""
        ...

    async def expire(self, before: float, limit: int) -> int:
        """Remove some that were saved before that time, so many at most; how many, 0 when there are none."""
        ...


@dataclass(frozen=True, slots=True)
class SessionRecord:
    user_id: str
    session_id: str
    created_at: float
    updated_at: float
    message_count: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    session_id: str
    position: int  # rises within a session, from 1, with gaps
    message_id: str
    payload: bytes
    created_at: float
    run_id: str


@dataclass(frozen=True, slots=True)
class MessageHit:
    message: StoredMessage
    score: float


class SessionStore(Protocol):
    """Sessions and their messages, also those that a RunLog of the same URL committed."""

    async def create(self, user_id: str, session_id: str, metadata: str) -> SessionRecord:
        """Raises SessionExists."""
        ...

    async def get(self, user_id: str, session_id: str) -> SessionRecord:
        """Raises SessionNotFound."""
        ...

    async def update(self, user_id: str, session_id: str, metadata: str) -> SessionRecord:
        """Replace the metadata. Raises SessionNotFound."""
        ...

    async def list(
        self, user_id: str, before: tuple[float, str] | None, limit: int
    ) -> Sequence[SessionRecord]:
        """Last used first by (updated_at, session_id), strictly before the given pair."""
        ...

    async def delete(self, user_id: str, session_id: str, *, idle_since: float | None = None) -> None:
        """With its messages and its state, all parts of it, at once. With a time: only if the session was
        not used since. Raises SessionNotFound."""
        ...

    async def idle(self, before: float, after: SessionRecord | None, limit: int) -> Sequence[SessionRecord]:
        """Everybody's, not used since that time, by (updated_at, user_id, session_id), strictly after the
        given one; without counts and metadata."""
        ...

    async def append(
        self, user_id: str, session_id: str, messages: Sequence[NewMessage]
    ) -> Sequence[StoredMessage]:
        """Those that were new, in order. Raises SessionNotFound."""
        ...

    async def messages(
        self, user_id: str, session_id: str, cursor: int | None, limit: int, descending: bool
    ) -> Sequence[StoredMessage]:
        """Strictly beyond the cursor in the given direction. Raises SessionNotFound."""
        ...

    async def message(self, user_id: str, session_id: str, message_id: str) -> StoredMessage:
        """Raises MessageNotFound."""
        ...

    async def remove(self, user_id: str, session_id: str, message_id: str) -> None:
        """Raises MessageNotFound."""
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
        """Copy the messages up to the run's last into a new session, in order; whether that was done.

        It is not if the run's last message is the session's last, unless `always`. A run without
        messages counts as last. With `before`, the id of one of the run's messages, the copy ends before
        that one and is always made. Raises SessionNotFound, MessageNotFound.
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
        """Best first. The query is plain words; roles and types are those of the protocol, none means any."""
        ...

    async def index_pending(self, limit: int = 2000) -> int:
        """Make up to `limit` new messages searchable ahead of the next search; how many there were."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    memory_id: str
    user_id: str
    session_id: str
    text: str
    created_at: float
    metadata: str = ""  # a JSON object, or empty
    key: str = ""  # the user's own name of it, or empty
    updated_at: float = 0.0  # when it was added or last changed
    expires_at: float | None = None  # from then on nobody finds it

    @property
    def size(self) -> int:
        """What it counts for where storage is limited, in bytes."""
        return len(self.text.encode()) + len(self.metadata.encode()) + len(self.key.encode())


class MemoryChanges(TypedDict, total=False):
    """The fields of a memory that get new values."""

    text: str
    metadata: str
    session_id: str
    expires_at: float | None
    updated_at: float


@dataclass(frozen=True, slots=True)
class MemoryHit:
    memory: MemoryRecord
    score: float


class MemoryStore(Protocol):
    """Memories by user. One that has expired is found no more, as if it had been removed already."""

    async def add(self, memories: Sequence[MemoryRecord]) -> Sequence[MemoryRecord]:
        """All or none; as they are then. One whose id is there already is left out. One whose key its user
        has already replaces that one, and takes its id and the time of its creation."""
        ...

    async def get(
        self, user_id: str, memory_id: str | None = None, *, key: str | None = None
    ) -> MemoryRecord:
        """By its id or its key. Raises MemoryNotFound."""
        ...

    async def update(self, user_id: str, memory_id: str, changes: MemoryChanges) -> MemoryRecord:
        """As it is then. Raises MemoryNotFound."""
        ...

    async def search(
        self,
        user_id: str,
        query: str,
        limit: int,
        session_id: str | None = None,
        filter: MetadataFilter = EVERY,
    ) -> Sequence[MemoryHit]:
        """Best first. The query is plain words."""
        ...

    async def list(
        self,
        user_id: str,
        session_id: str | None,
        before: tuple[float, str] | None,
        limit: int,
        *,
        filter: MetadataFilter = EVERY,
    ) -> Sequence[MemoryRecord]:
        """Newest first by (created_at, memory_id), strictly before the given pair."""
        ...

    async def delete(
        self,
        user_id: str,
        session_id: str | None,
        memory_id: str | None,
        *,
        key: str | None = None,
        filter: MetadataFilter = EVERY,
    ) -> int:
        """Remove what fits all of these, also what has expired; how many there were."""
        ...

    async def expire(self, before: float, limit: int) -> int:
        """Remove some that were last changed before that time, so many at most; how many, 0 when there are
        none."""
        ...

    async def remove_expired(self, now: float, limit: int) -> int:
        """The same for those that have expired by that time."""
        ...


@dataclass(frozen=True, slots=True)
class Stores:
    """All stores of one URL. Whoever opened it closes it."""

    runs: RunLog
    states: StateStore
    sessions: SessionStore
    memories: MemoryStore
    pushes: PushStore
    results: ResultStore
    keys: KeyStore
    sizes: SizeStore
    room: Room | None = None  # whether there is some for more, if that is limited
    release: Callable[[], Awaitable[None]] | None = None  # ends what the stores share, before the log
    scrub: Callable[[], Awaitable[None]] | None = None  # erases what deleted things leave behind
    health: StoreHealth = field(default_factory=StoreHealth)
    owned: Callable[[], Awaitable[None]] | None = None  # raises FencedOut if another core has the stores now
    lost: asyncio.Event = field(default_factory=asyncio.Event)  # set once somebody has been told so

    async def erase(self) -> None:
        """Leave no byte of what was deleted before. Raises StoreUnavailable when that can't be done now."""
        if self.scrub is not None:
            await self.scrub()

    async def taken_over(self) -> None:
        """Return when another core has the stores, which is looked for now and then."""
        while not self.lost.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.lost.wait(), LOOK_SECONDS)
            if self.owned is not None:
                with suppress(StoreUnavailable):  # if it is FencedOut, `lost` is set
                    await self.owned()

    async def close(self) -> None:
        """Safe to repeat. What is called afterwards raises StoreUnavailable."""
        if self.release is not None:
            await self.release()
        await self.runs.close()
