"""Stores that check the quota of stored bytes before they write, and forward all other calls."""

from collections.abc import Sequence
from dataclasses import replace

from portico.core.stores.ports.stores import (
    MemoryChanges,
    MemoryRecord,
    MemoryStore,
    NewMessage,
    SessionRecord,
    SessionStore,
    StateRecord,
    StateStore,
    StoredMessage,
    Stores,
)
from portico.core.stores.storage_quota import StorageQuota


def with_quota(stores: Stores, *, per_tenant: int | None, per_user: int | None) -> Stores:
    """Return the stores with quotas on stored bytes. The engine checks the quotas for runs.

    Args:
        stores: The stores to limit.
        per_tenant: The most bytes per tenant; None for no quota.
        per_user: The most bytes per user; None for no quota.
    """
    if per_tenant is None and per_user is None:
        return stores
    room = StorageQuota(stores.sizes, per_tenant=per_tenant, per_user=per_user)
    return replace(
        stores,
        states=QuotaStateStore(stores.states, room),
        sessions=QuotaSessionStore(stores.sessions, room),
        memories=QuotaMemoryStore(stores.memories, room),
        quota=room,
    )


class QuotaStateStore:
    """StateStore whose `save` raises LimitExceeded when the quota is used up."""

    def __init__(self, store: StateStore, room: StorageQuota) -> None:
        self._store = store
        self._room = room
        self.get = store.get
        self.list = store.list
        self.delete = store.delete
        self.expire = store.expire

    async def save(
        self,
        user_id: str,
        session_id: str,
        round_id: int | None,
        state: str,
        etag: str | None,
        part: str = "",
    ) -> StateRecord:
        await self._room.check_and_measure(user_id, len(state.encode()))
        return await self._store.save(user_id, session_id, round_id, state, etag, part)


class QuotaSessionStore:
    """SessionStore whose `create`, `update` and `append` raise LimitExceeded when the quota is used up."""

    def __init__(self, store: SessionStore, room: StorageQuota) -> None:
        self._store = store
        self._room = room
        self.get = store.get
        self.list = store.list
        self.delete = store.delete
        self.idle = store.idle
        self.messages = store.messages
        self.message = store.message
        self.remove = store.remove
        self.search = store.search
        self.index_pending = store.index_pending

    async def create(self, user_id: str, session_id: str, metadata: str) -> SessionRecord:
        await self._room.check_and_measure(user_id, len(metadata.encode()))
        return await self._store.create(user_id, session_id, metadata)

    async def update(self, user_id: str, session_id: str, metadata: str) -> SessionRecord:
        await self._room.check_and_measure(user_id, len(metadata.encode()))
        return await self._store.update(user_id, session_id, metadata)

    async def append(
        self, user_id: str, session_id: str, messages: Sequence[NewMessage]
    ) -> Sequence[StoredMessage]:
        await self._room.check_and_measure(user_id, sum(len(message.payload) for message in messages))
        return await self._store.append(user_id, session_id, messages)

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
        copied = await self._store.fork(
            user_id, session_id, run_id, new_session_id, always=always, before=before
        )
        if copied:
            self._room.invalidate(user_id)
        return copied


class QuotaMemoryStore:
    """MemoryStore whose `add` and `update` raise LimitExceeded when the quota is used up."""

    def __init__(self, store: MemoryStore, room: StorageQuota) -> None:
        self._store = store
        self._room = room
        self.get = store.get
        self.search = store.search
        self.list = store.list
        self.delete = store.delete
        self.expire = store.expire
        self.remove_expired = store.remove_expired

    async def add(self, memories: Sequence[MemoryRecord]) -> Sequence[MemoryRecord]:
        for user_id in dict.fromkeys(memory.user_id for memory in memories):
            size = sum(memory.size for memory in memories if memory.user_id == user_id)
            await self._room.check_and_measure(user_id, size)
        return await self._store.add(memories)

    async def update(self, user_id: str, memory_id: str, changes: MemoryChanges) -> MemoryRecord:
        # The replaced bytes are subtracted by the next measurement, and no call is refused without one.
        new = (changes.get("text", ""), changes.get("metadata", ""))
        await self._room.check_and_measure(user_id, sum(len(text.encode()) for text in new))
        return await self._store.update(user_id, memory_id, changes)
