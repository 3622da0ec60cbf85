"""Memories in memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

from portico.core.stores.base import MemoryHit, MemoryRecord
from portico.core.stores.members import members
from portico.core.stores.ranking import WordIndex


@dataclass(slots=True)
class _User:
    memories: dict[str, MemoryRecord] = field(default_factory=dict)  # by id
    members: dict[str, Mapping[str, str]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    index: WordIndex[str] = field(default_factory=WordIndex)


class MemoryMemoryStore:
    """Each user has an index of their own."""

    def __init__(self) -> None:
        self._users: dict[str, _User] = {}
        self._owners: dict[str, str] = {}  # by memory id
        self._number = 0

    def stored_bytes(self, has: Callable[[str], bool]) -> int:
        return sum(
            len(memory.text.encode()) + len(memory.metadata.encode())
            for owner, user in self._users.items()
            if has(owner)
            for memory in user.memories.values()
        )

    async def add(self, memories: Sequence[MemoryRecord]) -> None:
        read = [(memory, members(memory.metadata)) for memory in memories]
        for memory, found in read:
            if memory.memory_id in self._owners:
                continue
            self._number += 1
            self._owners[memory.memory_id] = memory.user_id
            user = self._users.setdefault(memory.user_id, _User())
            user.memories[memory.memory_id] = memory
            user.members[memory.memory_id] = found
            user.numbers[memory.memory_id] = self._number
            user.index.add(memory.memory_id, memory.text)

    async def search(
        self,
        user_id: str,
        query: str,
        limit: int,
        session_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Sequence[MemoryHit]:
        user = self._users.get(user_id, _User())
        wanted = (metadata or {}).items()
        hits = [
            MemoryHit(user.memories[memory_id], score)
            for memory_id, score in user.index.search(query).items()
            if session_id in (None, user.memories[memory_id].session_id)
            and wanted <= user.members[memory_id].items()
        ]
        return nlargest(limit, hits, key=lambda hit: (hit.score, user.numbers[hit.memory.memory_id]))

    async def list(
        self,
        user_id: str,
        session_id: str | None,
        before: tuple[float, str] | None,
        limit: int,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> Sequence[MemoryRecord]:
        user = self._users.get(user_id, _User())
        wanted = (metadata or {}).items()
        found = (
            memory
            for memory in user.memories.values()
            if session_id in (None, memory.session_id)
            and (before is None or _place(memory) < before)
            and wanted <= user.members[memory.memory_id].items()
        )
        return nlargest(limit, found, key=_place)

    async def delete(self, user_id: str, session_id: str | None, memory_id: str | None) -> int:
        user = self._users.get(user_id, _User())
        doomed = [
            memory.memory_id
            for memory in user.memories.values()
            if session_id in (None, memory.session_id) and memory_id in (None, memory.memory_id)
        ]
        for name in doomed:
            del user.memories[name], user.members[name], user.numbers[name], self._owners[name]
            user.index.remove(name)
        return len(doomed)

    async def expire(self, before: float, limit: int) -> int:
        doomed = [
            (memory.user_id, memory.memory_id)
            for user in self._users.values()
            for memory in user.memories.values()
            if memory.created_at < before
        ][:limit]
        for user_id, memory_id in doomed:
            await self.delete(user_id, None, memory_id)
        return len(doomed)


def _place(memory: MemoryRecord) -> tuple[float, str]:
    return memory.created_at, memory.memory_id
