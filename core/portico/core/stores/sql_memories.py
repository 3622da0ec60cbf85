"""Memories in a SQL database."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from sqlalchemy import ColumnElement, LargeBinary, Select, and_, cast, delete, func, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from portico.core.stores.base import MemoryHit, MemoryRecord
from portico.core.stores.database import Database
from portico.core.stores.members import members
from portico.core.stores.reserve import makes_room
from portico.core.stores.schema import memories, memory_members
from portico.core.stores.steps import STEP_ROWS, one_step


class MemoryIndex(Protocol):
    """What a dialect brings to find memories by their words."""

    async def add(self, connection: AsyncConnection, memories: Mapping[int, MemoryRecord]) -> None: ...

    async def remove(self, connection: AsyncConnection, numbers: Select[int]) -> None: ...

    async def search(
        self, user_id: str, query: str, limit: int, session_id: str | None, metadata: Mapping[str, str]
    ) -> Sequence[MemoryHit]: ...


class SqlMemoryStore:
    """A memory, its members and its words are written together."""

    def __init__(self, database: Database, index: MemoryIndex) -> None:
        self._database = database
        self._index = index

    async def add(self, memories: Sequence[MemoryRecord]) -> None:
        if not memories:
            return
        async with self._database.write() as connection:
            new = await self._insert(connection, memories)
            if not new:
                return
            rows = [
                {"number": number, "name": name, "value": value}
                for number, memory in new.items()
                for name, value in members(memory.metadata).items()
            ]
            if rows:
                await connection.execute(insert(memory_members), rows)
            await self._index.add(connection, new)

    async def search(
        self,
        user_id: str,
        query: str,
        limit: int,
        session_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Sequence[MemoryHit]:
        return await self._index.search(user_id, query, limit, session_id, metadata or {})

    async def list(
        self,
        user_id: str,
        session_id: str | None,
        before: tuple[float, str] | None,
        limit: int,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> Sequence[MemoryRecord]:
        query = (
            select(
                memories.c.memory_id,
                memories.c.user_id,
                memories.c.session_id,
                memories.c.text,
                memories.c.created_at,
                memories.c.metadata,
            )
            .where(_of(user_id, session_id, None))
            .order_by(memories.c.created_at.desc(), memories.c.memory_id.desc())
            .limit(limit)
        )
        for name, value in (metadata or {}).items():
            member = select(memory_members.c.number).where(
                memory_members.c.number == memories.c.number,
                memory_members.c.name == name,
                memory_members.c.value == value,
            )
            query = query.where(member.exists())
        if before is not None:
            query = query.where(tuple_(memories.c.created_at, memories.c.memory_id) < before)
        async with self._database.read() as connection:
            return [MemoryRecord(*row) for row in await connection.execute(query)]

    async def delete(self, user_id: str, session_id: str | None, memory_id: str | None) -> int:
        number = 0
        while found := await self._delete_some(_of(user_id, session_id, memory_id), STEP_ROWS):
            number += found
        return number

    async def expire(self, before: float, limit: int) -> int:
        return await self._delete_some(memories.c.created_at < before, limit)

    @makes_room
    async def _delete_some(self, doomed: ColumnElement[bool], limit: int) -> int:
        size = func.length(cast(memories.c.text, LargeBinary)) + func.length(memories.c.metadata)
        oldest = select(memories.c.number, size).where(doomed)
        oldest = oldest.order_by(memories.c.created_at, memories.c.number).limit(limit)
        async with self._database.write() as connection:
            rows = (await connection.execute(oldest)).all()
            step = one_step((row[0], row[1]) for row in rows)
            if step:
                numbers = select(memories.c.number).where(memories.c.number.in_(step))
                await self._index.remove(connection, numbers)
                await connection.execute(delete(memory_members).where(memory_members.c.number.in_(step)))
                await connection.execute(delete(memories).where(memories.c.number.in_(step)))
        return len(step)

    async def _insert(
        self, connection: AsyncConnection, records: Sequence[MemoryRecord]
    ) -> dict[int, MemoryRecord]:
        """Those that were new, by their numbers."""
        rows = [
            {
                "memory_id": record.memory_id,
                "user_id": record.user_id,
                "session_id": record.session_id,
                "text": record.text,
                "created_at": record.created_at,
                "metadata": record.metadata,
            }
            for record in records
        ]
        statement = (
            self._database.insert(memories)
            .on_conflict_do_nothing()
            .returning(memories.c.number, memories.c.memory_id)
        )
        by_id = {record.memory_id: record for record in records}
        return {number: by_id[memory_id] for number, memory_id in await connection.execute(statement, rows)}


def _of(user_id: str, session_id: str | None, memory_id: str | None) -> ColumnElement[bool]:
    terms = [memories.c.user_id == user_id]
    if session_id is not None:
        terms.append(memories.c.session_id == session_id)
    if memory_id is not None:
        terms.append(memories.c.memory_id == memory_id)
    return and_(*terms)
