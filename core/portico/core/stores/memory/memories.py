"""The store of memories in the process's memory; its content is lost when the process ends."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest

from portico.core.errors import MemoryNotFound
from portico.core.stores.deletion_steps import batches
from portico.core.stores.ports.json_fields import JsonField, Path, flatten_fields
from portico.core.stores.ports.memory_filters import MATCH_ALL, MetadataFilter
from portico.core.stores.ports.stores import MemoryChanges, MemoryHit, MemoryRecord
from portico.core.stores.search.ranking import scores
from portico.core.stores.search.word_index import WordIndex


@dataclass(slots=True)
class _User:
    memories: dict[str, MemoryRecord] = field(default_factory=dict)  # by id
    members: dict[str, Mapping[Path, JsonField]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)  # by number
    keys: dict[str, str] = field(default_factory=dict)  # ids by key
    index: WordIndex = field(default_factory=WordIndex)  # by number

    def alive(self, memory_id: str) -> MemoryRecord | None:
        memory = self.memories.get(memory_id)
        return None if memory is None or _has_expired(memory, time.time()) else memory

    def put(self, memory: MemoryRecord, found: Mapping[Path, JsonField], number: int) -> None:
        """Add a new memory, or replace the one with the same id."""
        number = self.numbers.setdefault(memory.memory_id, number)
        if memory.memory_id in self.memories:
            self.index.remove(number)
        self.memories[memory.memory_id] = memory
        self.members[memory.memory_id] = found
        self.ids[number] = memory.memory_id
        if memory.key:
            self.keys[memory.key] = memory.memory_id
        self.index.add(number, memory.text)

    def remove(self, memory_id: str) -> None:
        memory = self.memories.pop(memory_id)
        number = self.numbers.pop(memory_id)
        del self.members[memory_id], self.ids[number]
        self.keys.pop(memory.key, None)
        self.index.remove(number)


class MemoryMemoryStore:
    """MemoryStore in the process's memory. Each user has a separate word index."""

    def __init__(self) -> None:
        self._users: dict[str, _User] = {}
        self._owners: dict[str, str] = {}  # by memory id
        self._number = 0

    def stored_bytes(self, has: Callable[[str], bool]) -> int:
        return sum(
            memory.size
            for owner, user in self._users.items()
            if has(owner)
            for memory in user.memories.values()
        )

    async def add(self, memories: Sequence[MemoryRecord]) -> Sequence[MemoryRecord]:
        read = [(memory, flatten_fields(memory.metadata)) for memory in memories]
        for memory, found in read:
            self._put(memory, found)
        return [self._by_key(memory) if memory.key else memory for memory in memories]

    def _put(self, memory: MemoryRecord, found: Mapping[Path, JsonField]) -> None:
        user = self._users.setdefault(memory.user_id, _User())
        before = user.keys.get(memory.key)
        if before is not None and user.alive(before) is None:
            self._remove(memory.user_id, before)
        elif before is not None:
            created_at = user.memories[before].created_at
            user.put(replace(memory, memory_id=before, created_at=created_at), found, 0)
            return
        if memory.memory_id in self._owners:
            return
        self._number += 1
        self._owners[memory.memory_id] = memory.user_id
        user.put(memory, found, self._number)

    def _by_key(self, memory: MemoryRecord) -> MemoryRecord:
        user = self._users[memory.user_id]
        return user.memories[user.keys[memory.key]]

    async def get(
        self, user_id: str, memory_id: str | None = None, *, key: str | None = None
    ) -> MemoryRecord:
        user = self._users.get(user_id, _User())
        name = user.keys.get(key, "") if key is not None else memory_id or ""
        memory = user.alive(name)
        if memory is None or memory_id not in (None, name):
            raise MemoryNotFound(memory_id=memory_id or "", key=key or "")
        return memory

    async def update(self, user_id: str, memory_id: str, changes: MemoryChanges) -> MemoryRecord:
        memory = replace(await self.get(user_id, memory_id), **changes)
        self._users[user_id].put(memory, flatten_fields(memory.metadata), 0)
        return memory

    async def search(
        self,
        user_id: str,
        query: str,
        limit: int,
        session_id: str | None = None,
        filter: MetadataFilter = MATCH_ALL,
    ) -> Sequence[MemoryHit]:
        user = self._users.get(user_id, _User())
        fits = _fits(user, session_id, filter)
        texts = user.index.filtered(lambda number: fits(user.memories[user.ids[number]]))
        found = await scores(texts, query)
        # Some may have been deleted during the ranking.
        best = nlargest(limit, ((score, number) for number, score in found.items() if number in user.ids))
        return [MemoryHit(user.memories[user.ids[number]], score) for score, number in best]

    async def list(
        self,
        user_id: str,
        session_id: str | None,
        before: tuple[float, str] | None,
        limit: int,
        *,
        filter: MetadataFilter = MATCH_ALL,
    ) -> Sequence[MemoryRecord]:
        user = self._users.get(user_id, _User())
        fits = _fits(user, session_id, filter)
        found = (
            memory
            for memory in user.memories.values()
            if (before is None or _place(memory) < before) and fits(memory)
        )
        return nlargest(limit, found, key=_place)

    async def delete(
        self,
        user_id: str,
        session_id: str | None,
        memory_id: str | None,
        *,
        key: str | None = None,
        filter: MetadataFilter = MATCH_ALL,
    ) -> int:
        user = self._users.get(user_id, _User())
        doomed = [
            memory.memory_id
            for memory in user.memories.values()
            if session_id in (None, memory.session_id)
            and memory_id in (None, memory.memory_id)
            and (key is None or (memory.key and memory.key == key))
            and filter.matches(user.members[memory.memory_id])
        ]
        number = 0
        async for name in batches(doomed):
            if name in user.memories:
                self._remove(user_id, name)
                number += 1
        return number

    async def expire(self, before: float, limit: int) -> int:
        return self._remove_some(lambda memory: memory.updated_at < before, limit)

    async def remove_expired(self, now: float, limit: int) -> int:
        return self._remove_some(lambda memory: _has_expired(memory, now), limit)

    def _remove_some(self, doomed: Callable[[MemoryRecord], bool], limit: int) -> int:
        found = [
            (owner, memory.memory_id)
            for owner, user in self._users.items()
            for memory in user.memories.values()
            if doomed(memory)
        ][:limit]
        for owner, memory_id in found:
            self._remove(owner, memory_id)
        return len(found)

    def _remove(self, owner: str, memory_id: str) -> None:
        self._users[owner].remove(memory_id)
        del self._owners[memory_id]


def _fits(user: _User, session_id: str | None, filter: MetadataFilter) -> Callable[[MemoryRecord], bool]:
    now = time.time()
    return lambda memory: (
        session_id in (None, memory.session_id)
        and not _has_expired(memory, now)
        and filter.matches(user.members[memory.memory_id])
    )


def _has_expired(memory: MemoryRecord, now: float) -> bool:
    return memory.expires_at is not None and memory.expires_at <= now


def _place(memory: MemoryRecord) -> tuple[float, str]:
    return memory.created_at, memory.memory_id
