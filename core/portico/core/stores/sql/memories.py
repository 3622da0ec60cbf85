"""The store of memories in a SQL database."""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Select,
    and_,
    cast,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from portico.core.errors import MemoryNotFound
from portico.core.stores.deletion_steps import ROW_BYTES, StepSize, next_batch
from portico.core.stores.disk_reserve import uses_disk_reserve
from portico.core.stores.ports.json_fields import encode_path, flatten_fields
from portico.core.stores.ports.memory_filters import MATCH_ALL, MetadataFilter
from portico.core.stores.ports.stores import MemoryChanges, MemoryHit, MemoryRecord
from portico.core.stores.sql.database import Database
from portico.core.stores.sql.memory_filters import MEMORY_COLUMNS, filter_conditions, not_expired
from portico.core.stores.sql.memory_scan import scan
from portico.core.stores.sql.schema import KEY_IS_SET, memories, memory_members

_COLUMNS = tuple(column.name for column in MEMORY_COLUMNS)
# Columns that stay unchanged when a memory replaces another with the same key.
_KEPT = ("memory_id", "user_id", "key", "created_at")
_Key = tuple[str, str]  # user and key


class MemoryIndex(Protocol):
    """The full-text index of memories, specific to the database."""

    async def add(self, connection: AsyncConnection, memories: Mapping[int, MemoryRecord]) -> None: ...

    async def remove(self, connection: AsyncConnection, numbers: Select[int]) -> None: ...

    async def search(
        self, user_id: str, query: str, limit: int, session_id: str | None, filter: MetadataFilter
    ) -> Sequence[MemoryHit]: ...


class SqlMemoryStore:
    """MemoryStore in a SQL database. A memory, its members and its words are written in one transaction."""

    def __init__(self, database: Database, index: MemoryIndex) -> None:
        self._database = database
        self._index = index

    async def add(self, memories: Sequence[MemoryRecord]) -> Sequence[MemoryRecord]:
        if not memories:
            return []
        plain = [memory for memory in memories if not memory.key]
        keyed = {(memory.user_id, memory.key): memory for memory in memories if memory.key}
        replaced: dict[_Key, MemoryRecord] = {}
        async with self._database.write() as connection:
            new = await self._insert(connection, plain)
            if keyed:
                written = await self._upsert(connection, keyed)
                await self._forget(connection, list(written))
                replaced = {(memory.user_id, memory.key): memory for memory in written.values()}
                new |= written
            await self._tell(connection, new)
        return [replaced.get((memory.user_id, memory.key), memory) for memory in memories]

    async def get(
        self, user_id: str, memory_id: str | None = None, *, key: str | None = None
    ) -> MemoryRecord:
        query = select(*MEMORY_COLUMNS).where(_of(user_id, None, memory_id, key), not_expired())
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise MemoryNotFound(memory_id=memory_id or "", key=key or "")
        return MemoryRecord(*row)

    async def update(self, user_id: str, memory_id: str, changes: MemoryChanges) -> MemoryRecord:
        change = update(memories).where(_of(user_id, None, memory_id, None), not_expired()).values(**changes)
        async with self._database.write() as connection:
            row = (await connection.execute(change.returning(memories.c.number, *MEMORY_COLUMNS))).first()
            if row is None:
                raise MemoryNotFound(memory_id=memory_id)
            record = MemoryRecord(*row[1:])
            await self._forget(connection, [row[0]])
            await self._tell(connection, {row[0]: record})
        return record

    async def search(
        self,
        user_id: str,
        query: str,
        limit: int,
        session_id: str | None = None,
        filter: MetadataFilter = MATCH_ALL,
    ) -> Sequence[MemoryHit]:
        return await self._index.search(user_id, query, limit, session_id, filter)

    async def list(
        self,
        user_id: str,
        session_id: str | None,
        before: tuple[float, str] | None,
        limit: int,
        *,
        filter: MetadataFilter = MATCH_ALL,
    ) -> Sequence[MemoryRecord]:
        mine = _of(user_id, session_id, None, None)
        query = (
            select(*MEMORY_COLUMNS)
            .order_by(memories.c.created_at.desc(), memories.c.memory_id.desc())
            .limit(limit)
        )
        if filter.groups:
            found: list[int] = []
            fits = [not_expired(), *filter_conditions(filter, memories.c.number)]
            async for numbers in scan(self._database, mine, fits, before):
                found += numbers
                if len(found) >= limit:
                    break
            query = query.where(memories.c.number.in_(found[:limit]), not_expired())
        elif before is None:
            query = query.where(mine, not_expired())
        else:
            place = tuple_(memories.c.created_at, memories.c.memory_id)
            query = query.where(mine, not_expired(), place < before)
        async with self._database.read() as connection:
            return [MemoryRecord(*row) for row in await connection.execute(query)]

    async def delete(
        self,
        user_id: str,
        session_id: str | None,
        memory_id: str | None,
        *,
        key: str | None = None,
        filter: MetadataFilter = MATCH_ALL,
    ) -> int:
        mine = _of(user_id, session_id, memory_id, key)
        if not filter.groups:
            return await self._delete_all(mine)
        deleted = 0
        size = StepSize()
        fits = list(filter_conditions(filter, memories.c.number))
        async for numbers in scan(self._database, mine, fits):
            start = 0
            while start < len(numbers):
                some = numbers[start : start + size.rows]
                start += len(some)
                # Some may have changed since. The owner never does: with a condition on it too, SQLite would
                # look through all of the owner's memories.
                deleted += await self._delete_all(and_(memories.c.number.in_(some), *fits), size, len(some))
        return deleted

    async def expire(self, before: float, limit: int) -> int:
        deleted, _ = await self._delete_some(memories.c.updated_at < before, limit)
        return deleted

    async def remove_expired(self, now: float, limit: int) -> int:
        deleted, _ = await self._delete_some(memories.c.expires_at <= now, limit)
        return deleted

    async def _delete_all(
        self, doomed: ColumnElement[bool], size: StepSize | None = None, at_most: int | None = None
    ) -> int:
        size = size or StepSize()
        deleted = 0
        whole = False
        while not whole:
            found, whole = await self._delete_some(doomed, at_most or size.rows, size)
            deleted += found
        return deleted

    @uses_disk_reserve
    async def _delete_some(
        self, doomed: ColumnElement[bool], limit: int, size: StepSize | None = None
    ) -> tuple[int, bool]:
        """Delete a part in one transaction; return how many memories, and whether those were all."""
        length = func.length(cast(memories.c.text, LargeBinary)) + func.length(memories.c.metadata)
        # Not ordered, since a sort would read all matching rows in each step.
        some = select(memories.c.number, length).where(doomed).limit(limit + 1)
        async with self._database.write() as connection:
            began = time.monotonic()
            rows = (await connection.execute(some)).all()
            row_bytes = ROW_BYTES if size is None else size.row_bytes
            step = next_batch(((row[0], row[1]) for row in rows[:limit]), row_bytes=row_bytes)
            await self._remove(connection, step)
        if size is not None:
            size.took(time.monotonic() - began)
        return len(step), len(step) == len(rows)

    async def _insert(
        self, connection: AsyncConnection, records: Sequence[MemoryRecord]
    ) -> dict[int, MemoryRecord]:
        """Insert memories; return those that were new, by their numbers."""
        if not records:
            return {}
        statement = (
            self._database.insert(memories)
            .on_conflict_do_nothing()
            .returning(memories.c.number, memories.c.memory_id)
        )
        by_id = {record.memory_id: record for record in records}
        rows = await connection.execute(statement, [_row(record) for record in records])
        return {number: by_id[memory_id] for number, memory_id in rows}

    async def _upsert(
        self, connection: AsyncConnection, records: Mapping[_Key, MemoryRecord]
    ) -> dict[int, MemoryRecord]:
        """Insert or replace memories by their keys; return all as stored, by their numbers."""
        await self._remove_expired_keys(connection, list(records))
        insert = self._database.insert(memories)
        replaced = {name: insert.excluded[name] for name in _COLUMNS if name not in _KEPT}
        statement = insert.on_conflict_do_update(
            index_elements=["user_id", "key"], index_where=text(KEY_IS_SET), set_=replaced
        ).returning(memories.c.number, *MEMORY_COLUMNS)
        rows = await connection.execute(statement, [_row(record) for record in records.values()])
        return {row[0]: MemoryRecord(*row[1:]) for row in rows}

    async def _remove_expired_keys(self, connection: AsyncConnection, keys: Sequence[_Key]) -> None:
        """Delete expired memories with these keys: a new memory must not inherit from them."""
        named = and_(tuple_(memories.c.user_id, memories.c.key).in_(keys), text(KEY_IS_SET))
        gone = select(memories.c.number).where(named, memories.c.expires_at <= time.time())
        await self._remove(connection, list((await connection.execute(gone)).scalars()))

    async def _remove(self, connection: AsyncConnection, numbers: Sequence[int]) -> None:
        if numbers:
            await self._forget(connection, numbers)
            await connection.execute(delete(memories).where(memories.c.number.in_(numbers)))

    async def _forget(self, connection: AsyncConnection, numbers: Sequence[int]) -> None:
        """Delete the words and members of memories."""
        await self._index.remove(connection, select(memories.c.number).where(memories.c.number.in_(numbers)))
        await connection.execute(delete(memory_members).where(memory_members.c.number.in_(numbers)))

    async def _tell(self, connection: AsyncConnection, new: Mapping[int, MemoryRecord]) -> None:
        """Write the members and words of memories."""
        if not new:
            return
        rows = [
            {
                "number": number,
                "name": encode_path(path),
                "kind": member.kind.value,
                "text": member.text,
                "number_value": member.number,
            }
            for number, memory in new.items()
            for path, member in flatten_fields(memory.metadata).items()
        ]
        if rows:
            await connection.execute(insert(memory_members), rows)
        await self._index.add(connection, new)


def _row(record: MemoryRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in _COLUMNS}


def _of(user_id: str, session_id: str | None, memory_id: str | None, key: str | None) -> ColumnElement[bool]:
    terms = [memories.c.user_id == user_id]
    if session_id is not None:
        terms.append(memories.c.session_id == session_id)
    if memory_id is not None:
        terms.append(memories.c.memory_id == memory_id)
    if key is not None:
        terms += [memories.c.key == key, memories.c.key != literal_column("''")]
    return and_(*terms)
