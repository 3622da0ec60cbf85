"""What a run's context reaches in the stores: its session, state, memory and results, and nobody else's."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import orjson

from portico.agent import Message, Remembered, SavedState
from portico.agent.said import MessageLike, to_message
from portico.core.engine.checks import (
    STATE_CHARACTERS,
    check_count,
    check_limit,
    check_query,
    check_round,
    object_text,
)
from portico.core.engine.checks import top_k as check_top_k
from portico.core.engine.committer import RETRY_SECONDS
from portico.core.engine.conversation import session_message
from portico.core.engine.encoding import EventEncoder
from portico.core.engine.ids import new_id
from portico.core.engine.live import LiveRun
from portico.core.errors import FencedOut, LimitExceeded, SessionNotFound, StateNotFound, StoreUnavailable
from portico.core.stores.base import MemoryRecord, MemoryStore, SessionStore, StateStore, Stores
from portico.telemetry import spans

RESULTS = 1000  # of `once`, for a run
LAST_SECONDS = 2.0  # how long a result may take to be kept whose run is being stopped


class RunState:
    """StateAccess of one run: to the agent's own state, or to a named part beside it."""

    def __init__(self, store: StateStore, run: LiveRun, part: str = "") -> None:
        self._store = store
        self._run = run
        self._place = run.session
        self._part = part

    async def save(
        self, state: Mapping[str, Any], *, round_id: int | None = None, etag: str | None = None
    ) -> SavedState:
        text = object_text(state, "state", STATE_CHARACTERS)
        check_round(round_id)
        if self._part:
            # A part lives in the run's session, which is there with the run's first events.
            await self._run.wait_published(0)
        try:
            record = await self._store.save(*self._place, round_id, text, etag, self._part)
        except SessionNotFound:
            # It was deleted while the agent works: what is said in it is kept nowhere either.
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

    def part(self, name: str) -> "RunState":
        if not name:
            raise ValueError("a part of the state needs a name")
        return RunState(self._store, self._run, f"{self._part}/{name}" if self._part else name)


class RunSession:
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
            return []  # it was deleted while the agent works, which is no fault of the agent's
        return [self._encoder.load_message(row.payload) for row in reversed(rows)]

    async def append(self, *messages: MessageLike) -> None:
        said = [to_message(message) for message in messages]
        check_count(len(said), "messages")
        for index, message in enumerate(said):
            self._encoder.check_message(message, f"messages[{index}]")
        await self._settled()
        user_id, session_id = self._run.session
        rows = [session_message(self._run, self._encoder, message) for message in said]
        with suppress(SessionNotFound):
            await self._store.append(user_id, session_id, rows)

    async def search(self, query: str, *, top_k: int = 10) -> Sequence[Message]:
        most = check_top_k(top_k)
        check_query(query)
        await self._settled()
        with _retrieval("session"):
            hits = await self._store.search(self._run.session[0], query, None, most)
        return [self._encoder.load_message(hit.message.payload) for hit in hits]

    async def _settled(self) -> None:
        # The run's input is in the session as soon as its first events are in the log.
        await self._run.wait_published(self._run.next_sequence_number - 1)


class RunMemory:
    """MemoryAccess of one run."""

    def __init__(self, store: MemoryStore, user_id: str, session_id: str) -> None:
        self._store = store
        self._user_id = user_id
        self._session_id = session_id

    async def add(self, text: str, *, metadata: Mapping[str, Any] | None = None) -> str:
        memory_id = new_id("mem_")
        about = orjson.dumps(metadata).decode() if metadata else ""
        record = MemoryRecord(memory_id, self._user_id, self._session_id, text, time.time(), about)
        await self._store.add([record])
        return memory_id

    async def search(
        self, query: str, *, top_k: int = 10, metadata: Mapping[str, str] | None = None
    ) -> Sequence[Remembered]:
        with _retrieval("memory"):
            hits = await self._store.search(self._user_id, query, top_k, metadata=metadata)
        return [_remembered(hit.memory, hit.score) for hit in hits]

    async def list(
        self, *, limit: int = 200, metadata: Mapping[str, str] | None = None
    ) -> Sequence[Remembered]:
        records = await self._store.list(self._user_id, None, None, limit, metadata=metadata)
        return [_remembered(record, 0.0) for record in records]

    async def delete(self, memory_id: str) -> bool:
        return await self._store.delete(self._user_id, None, memory_id) > 0


class RunResults:
    """ResultAccess of one run."""

    def __init__(self, stores: Stores, run: LiveRun) -> None:
        self._stores = stores
        self._run = run
        self._count = RESULTS  # at most; not known yet

    async def load(self, key: str) -> bytes | None:
        """Raises LimitExceeded where no other result would be kept."""
        run = self._run
        self._check()
        # No function is called for a run, or for an attempt, of which a crash would leave nothing.
        await run.wait_published(run.next_sequence_number - 1)
        found = await self._stores.results.get(run.run_id, key)
        if found is None:
            if self._count >= RESULTS:
                self._count = await self._stores.results.count(run.run_id)
            if self._count >= RESULTS:
                raise LimitExceeded("once_results", f"a run keeps {RESULTS} results of once() at most")
            self._count += 1
        return found

    async def keep(self, key: str, result: bytes) -> None:
        """Return once it is durable, however long the store refuses writes: what it tells of was done."""
        self._check()
        keeping = asyncio.create_task(self._keep(key, result))
        try:
            await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await asyncio.wait({keeping}, timeout=LAST_SECONDS)
            keeping.cancel()
            raise
        if self._stores.room is not None:
            self._stores.room.add(self._run.start.owner, len(result))

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
            raise RuntimeError("the run has ended; once() keeps nothing any more")


def _retrieval(source: str) -> AbstractContextManager[object]:
    attributes = {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": source}
    return spans.within(f"retrieval {source}", attributes)


def _remembered(record: MemoryRecord, score: float) -> Remembered:
    metadata = orjson.loads(record.metadata) if record.metadata else {}
    return Remembered(record.memory_id, record.text, metadata, score)
