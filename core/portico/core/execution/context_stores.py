"""The stores as a run's context uses them: its session, state, memory and results, limited to its owner."""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import orjson

from portico.agent import Message, MessageType, Remembered, Role, SavedState
from portico.agent.message_input import MessageLike, normalize_message
from portico.core.errors import (
    FencedOut,
    InvalidArgument,
    LimitExceeded,
    MemoryNotFound,
    SessionNotFound,
    StateNotFound,
    StoreUnavailable,
)
from portico.core.log.committer import RETRY_SECONDS
from portico.core.log.encoding import EventEncoder
from portico.core.log.live_run import LiveRun
from portico.core.log.session_messages import to_session_message
from portico.core.stores.argument_checks import (
    STATE_CHARACTERS,
    check_count,
    check_limit,
    check_query,
    check_round,
    check_top_k,
    check_unicode,
    encode_object,
)
from portico.core.stores.memory_checks import check_expiry, check_key, check_members, check_text, new_memory
from portico.core.stores.ports.memory_filters import MetadataFilter, parse_filter
from portico.core.stores.ports.stores import (
    MemoryChanges,
    MemoryRecord,
    MemoryStore,
    SessionStore,
    StateStore,
    Stores,
)
from portico.telemetry.tracing import spans

MAX_RESULTS = 1000  # most results of `once` for a run
STOPPING_WRITE_SECONDS = 2.0  # time to store a result while its run is stopping


class ContextState:
    """StateAccess of one run: the agent's own state, or a named part of it."""

    def __init__(self, store: StateStore, run: LiveRun, part: str = "") -> None:
        self._store = store
        self._run = run
        self._place = run.session
        self._part = part

    async def save(
        self, state: Mapping[str, Any], *, round_id: int | None = None, etag: str | None = None
    ) -> SavedState:
        text = encode_object(state, "state", STATE_CHARACTERS)
        check_round(round_id)
        if self._part:
            # A part is stored in the run's session, which exists once the run's first event is durable.
            await self._run.wait_published(0)
        try:
            record = await self._store.save(*self._place, round_id, text, etag, self._part)
        except SessionNotFound:
            # The session was deleted during the run: its messages are not stored either.
            return SavedState(round_id or 1, dict(state), "")
        return SavedState(record.round_id, dict(state), record.etag)

    async def load(self, *, round_id: int | None = None) -> SavedState | None:
        check_round(round_id)
        try:
            record = await self._store.get(*self._place, round_id, self._part)
        except StateNotFound:
            return None
        return SavedState(record.round_id, orjson.loads(record.state), record.etag)

    async def delete(self, *, round_id: int | None = None) -> int:
        return await self._store.delete(*self._place, check_round(round_id), self._part)

    def part(self, name: str) -> "ContextState":
        if not name:
            raise ValueError("a part of the state needs a name")
        return ContextState(self._store, self._run, f"{self._part}/{name}" if self._part else name)


class ContextSession:
    """SessionAccess of one run."""

    def __init__(self, store: SessionStore, encoder: EventEncoder, run: LiveRun) -> None:
        self._store = store
        self._encoder = encoder
        self._run = run

    async def messages(self, *, limit: int = 200) -> Sequence[Message]:
        check_limit(limit)
        await self._settled()
        user_id, session_id = self._run.session
        try:
            rows = await self._store.messages(user_id, session_id, None, limit, descending=True)
        except SessionNotFound:
            return []  # the session was deleted during the run, which is not the agent's fault
        return [self._encoder.load_message(row.payload) for row in reversed(rows)]

    async def append(self, *messages: MessageLike) -> None:
        said = [normalize_message(message) for message in messages]
        check_count(len(said), "messages")
        for index, message in enumerate(said):
            self._encoder.check_message(message, f"messages[{index}]")
        await self._settled()
        user_id, session_id = self._run.session
        rows = [to_session_message(self._run, self._encoder, message) for message in said]
        with suppress(SessionNotFound):
            await self._store.append(user_id, session_id, rows)

    async def search(
        self,
        query: str,
        *,
        top_k: int = 10,
        roles: Collection[str] = (),
        types: Collection[str] = (),
    ) -> Sequence[Message]:
        most = check_top_k(top_k)
        check_query(query)
        wanted = {
            "roles": enum_values(Role, roles, "roles"),
            "types": enum_values(MessageType, types, "types"),
        }
        await self._settled()
        with _retrieval("session"):
            hits = await self._store.search(self._run.session[0], query, None, most, **wanted)
        return [self._encoder.load_message(hit.message.payload) for hit in hits]

    async def _settled(self) -> None:
        # The session gets the run's input with its first events.
        await self._run.wait_published(self._run.next_sequence_number - 1)


class ContextMemory:
    """MemoryAccess of one run."""

    def __init__(self, store: MemoryStore, user_id: str, session_id: str) -> None:
        self._store = store
        self._user_id = user_id
        self._session_id = session_id

    async def add(
        self,
        text: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        key: str = "",
        created_at: float | None = None,
        expires_at: float | None = None,
    ) -> str:
        record = new_memory(
            self._user_id,
            text,
            session_id=self._session_id,
            metadata=_metadata(metadata),
            key=key,
            created_at=created_at,
            expires_at=expires_at,
        )
        (stored,) = await self._store.add([record])
        return stored.memory_id

    async def get(self, memory_id: str = "", *, key: str = "") -> Remembered | None:
        if bool(memory_id) == bool(key):
            raise InvalidArgument("memory_id", "is required, or a key in its place")
        check_key(key)
        check_unicode(memory_id, "memory_id")
        try:
            record = await self._store.get(self._user_id, memory_id or None, key=key or None)
        except MemoryNotFound:
            return None
        return to_remembered(record, 0.0)

    async def update(
        self,
        memory_id: str,
        *,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expires_at: float | None = None,
    ) -> Remembered | None:
        check_unicode(memory_id, "memory_id")
        changes = MemoryChanges(updated_at=time.time())
        if text is not None:
            check_text(text)
            changes["text"] = text
        if metadata is not None:
            changes["metadata"] = _metadata(metadata)
            check_members(changes["metadata"])
        if expires_at is not None:
            check_expiry(expires_at, "expires_at")
            changes["expires_at"] = float(expires_at)
        if len(changes) == 1:
            raise InvalidArgument("text", "no field to change; pass text, metadata or expires_at")
        try:
            return to_remembered(await self._store.update(self._user_id, memory_id, changes), 0.0)
        except MemoryNotFound:
            return None

    async def search(
        self,
        query: str,
        *,
        top_k: int = 10,
        metadata: Mapping[str, str] | None = None,
        filter: Mapping[str, Any] | None = None,
    ) -> Sequence[Remembered]:
        check_query(query)
        most, chosen = check_top_k(top_k), _filter(filter, metadata)
        with _retrieval("memory"):
            hits = await self._store.search(self._user_id, query, most, filter=chosen)
        return [to_remembered(hit.memory, hit.score) for hit in hits]

    async def list(
        self,
        *,
        limit: int = 200,
        metadata: Mapping[str, str] | None = None,
        filter: Mapping[str, Any] | None = None,
        before: Remembered | None = None,
    ) -> Sequence[Remembered]:
        check_limit(limit)
        place = None if before is None else (before.created_at, before.memory_id)
        chosen = _filter(filter, metadata)
        records = await self._store.list(self._user_id, None, place, limit, filter=chosen)
        return [to_remembered(record, 0.0) for record in records]

    async def delete(self, memory_id: str = "", *, key: str = "") -> bool:
        if bool(memory_id) == bool(key):
            raise InvalidArgument("memory_id", "is required, or a key in its place")
        check_key(key)
        check_unicode(memory_id, "memory_id")
        return await self._store.delete(self._user_id, None, memory_id or None, key=key or None) > 0


class ContextResults:
    """ResultAccess of one run."""

    def __init__(self, stores: Stores, run: LiveRun) -> None:
        self._stores = stores
        self._run = run
        self._count = MAX_RESULTS  # upper bound until the store was asked

    async def load(self, key: str) -> bytes | None:
        """Return the stored result of a key, or None. Raises LimitExceeded if no more may be stored."""
        run = self._run
        self._check()
        # A function is called only once the run and its attempt would survive a crash.
        await run.wait_published(run.next_sequence_number - 1)
        found = await self._stores.results.get(run.run_id, key)
        if found is None:
            if self._count >= MAX_RESULTS:
                self._count = await self._stores.results.count(run.run_id)
            if self._count >= MAX_RESULTS:
                raise LimitExceeded("once_results", f"a run keeps {MAX_RESULTS} results of once() at most")
            self._count += 1
        return found

    async def keep(self, key: str, result: bytes) -> None:
        """Store a result; return once it is durable, even if the store rejects writes for long.

        The function was called already, so its result must not be lost.
        """
        self._check()
        keeping = asyncio.create_task(self._keep(key, result))
        try:
            await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await asyncio.wait({keeping}, timeout=STOPPING_WRITE_SECONDS)
            keeping.cancel()
            raise
        if self._stores.quota is not None:
            self._stores.quota.add(self._run.start.owner, len(result))

    async def _keep(self, key: str, result: bytes) -> None:
        attempt = 0
        while True:
            try:
                await self._stores.results.keep(self._run.run_id, key, result)
            except FencedOut:
                raise
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
            else:
                return

    def _check(self) -> None:
        if self._run.status.terminal:
            raise RuntimeError("the run has ended; once() no longer stores results")


def _retrieval(source: str) -> AbstractContextManager[object]:
    attributes = {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": source}
    return spans.in_span(f"retrieval {source}", attributes)


def enum_values(kind: type[Role | MessageType], given: Collection[str], field: str) -> list[str]:
    """The values of the enumeration. Raises InvalidArgument for a value that it does not have."""
    try:
        return sorted({kind(word).value for word in given})
    except ValueError as error:
        raise InvalidArgument(field, str(error)) from None


def _metadata(metadata: Mapping[str, Any] | None) -> str:
    return encode_object(metadata, "metadata") if metadata else ""


def _filter(filter: Mapping[str, Any] | None, metadata: Mapping[str, str] | None) -> MetadataFilter:
    """Read a filter. Raises InvalidArgument, also for values that JSON does not have."""
    encode_object(filter or {}, "filter")
    encode_object(metadata or {}, "metadata")
    return parse_filter(filter, metadata)


def to_remembered(record: MemoryRecord, score: float) -> Remembered:
    return Remembered(
        record.memory_id,
        record.text,
        orjson.loads(record.metadata) if record.metadata else {},
        score,
        key=record.key,
        created_at=record.created_at,
        updated_at=record.updated_at,
        expires_at=record.expires_at,
    )
