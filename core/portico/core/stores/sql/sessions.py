"""The store of sessions and their messages in a SQL database."""

import time
from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, literal, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from portico.core.errors import MessageNotFound, SessionExists, SessionNotFound
from portico.core.stores.deletion_steps import StepSize, next_batch
from portico.core.stores.disk_reserve import uses_disk_reserve
from portico.core.stores.ports.stores import MessageHit, NewMessage, SessionRecord, StoredMessage
from portico.core.stores.sql.compression import encode_plain, encode_text
from portico.core.stores.sql.database import Database
from portico.core.stores.sql.row_deletion import delete_states
from portico.core.stores.sql.schema import messages, sessions, states

_STORED = (
    messages.c.session_id,
    messages.c.position,
    messages.c.message_id,
    messages.c.payload,
    messages.c.created_at,
    messages.c.run_id,
)


class MessageIndex(Protocol):
    """The full-text index of messages, specific to the database."""

    async def index_pending(self, limit: int) -> int: ...

    async def search(
        self,
        user_id: str,
        query: str,
        session_id: str | None,
        limit: int,
        roles: Sequence[str],
        types: Sequence[str],
    ) -> Sequence[MessageHit]: ...

    async def remove(self, connection: AsyncConnection, positions: Select[int]) -> None: ...


class SqlSessionStore:
    """SessionStore in a SQL database. The run log of the same database also writes its tables."""

    def __init__(self, database: Database, index: MessageIndex) -> None:
        self._database = database
        self._index = index

    async def create(self, user_id: str, session_id: str, metadata: str) -> SessionRecord:
        now = time.time()
        insert = self._database.insert(sessions).values(
            user_id=user_id, session_id=session_id, created_at=now, updated_at=now, metadata=metadata
        )
        async with self._database.write() as connection:
            result = await connection.execute(insert.on_conflict_do_nothing())
        if result.rowcount == 0:
            raise SessionExists(session_id)
        return SessionRecord(user_id, session_id, now, now, 0, metadata)

    async def get(self, user_id: str, session_id: str) -> SessionRecord:
        async with self._database.read() as connection:
            row = (await connection.execute(_records().where(_is(user_id, session_id)))).first()
        if row is None:
            raise SessionNotFound(session_id)
        return SessionRecord(*row)

    async def update(self, user_id: str, session_id: str, metadata: str) -> SessionRecord:
        change = update(sessions).where(_is(user_id, session_id)).values(metadata=metadata)
        async with self._database.write() as connection:
            await connection.execute(change)
        return await self.get(user_id, session_id)

    async def list(
        self, user_id: str, before: tuple[float, str] | None, limit: int
    ) -> Sequence[SessionRecord]:
        query = (
            _records()
            .where(sessions.c.user_id == user_id)
            .order_by(sessions.c.updated_at.desc(), sessions.c.session_id.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(tuple_(sessions.c.updated_at, sessions.c.session_id) < before)
        async with self._database.read() as connection:
            return [SessionRecord(*row) for row in await connection.execute(query)]

    async def delete(self, user_id: str, session_id: str, *, idle_since: float | None = None) -> None:
        this = _is(user_id, session_id)
        if idle_since is not None:
            this = and_(this, sessions.c.updated_at < idle_since)
        # `idle_since` is checked only once. The session's row is deleted last, so that no session of the
        # same id can be created in between.
        size = StepSize()
        while not await self._delete_some(user_id, session_id, this, size):
            this = _is(user_id, session_id)

    @uses_disk_reserve
    async def _delete_some(
        self, user_id: str, session_id: str, this: ColumnElement[bool], size: StepSize
    ) -> bool:
        """Delete a part of the session in one transaction; return whether nothing is left."""
        inside = _inside(user_id, session_id)
        oldest = select(messages.c.position, func.length(messages.c.payload)).where(inside)
        oldest = oldest.order_by(messages.c.position).limit(size.rows + 1)
        async with self._database.write() as connection:
            began = time.monotonic()
            if not (await connection.execute(select(exists().where(this)))).scalar():
                raise SessionNotFound(session_id)
            rows = (await connection.execute(oldest)).all()
            step = next_batch(((row[0], row[1]) for row in rows[: size.rows]), row_bytes=size.row_bytes)
            whole = len(step) == len(rows)
            doomed = inside if whole else and_(inside, messages.c.position <= step[-1])
            await self._index.remove(connection, select(messages.c.position).where(doomed))
            await connection.execute(delete(messages).where(doomed))
            if whole:
                state = and_(states.c.user_id == user_id, states.c.session_id == session_id)
                _, whole = await delete_states(connection, state)
            if whole:
                await connection.execute(delete(sessions).where(this))
        size.took(time.monotonic() - began)
        return whole

    async def idle(self, before: float, after: SessionRecord | None, limit: int) -> Sequence[SessionRecord]:
        place = (sessions.c.updated_at, sessions.c.user_id, sessions.c.session_id)
        columns = (sessions.c.user_id, sessions.c.session_id, sessions.c.created_at, sessions.c.updated_at)
        query = select(*columns, literal(0)).where(sessions.c.updated_at < before)
        if after is not None:
            query = query.where(tuple_(*place) > (after.updated_at, after.user_id, after.session_id))
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(*place).limit(limit))
            return [SessionRecord(*row) for row in rows]

    async def append(
        self, user_id: str, session_id: str, messages: Sequence[NewMessage]
    ) -> Sequence[StoredMessage]:
        rows = [_row(user_id, session_id, message) for message in messages]
        async with self._database.write() as connection:
            await check_session(connection, user_id, session_id)
            if not rows:
                return []
            stored = await self._insert(connection, rows)
            if stored:
                newest = max(message.created_at for message in stored)
                await connection.execute(
                    update(sessions)
                    .where(_is(user_id, session_id), sessions.c.updated_at < newest)
                    .values(updated_at=newest)
                )
        return stored

    async def messages(
        self, user_id: str, session_id: str, cursor: int | None, limit: int, descending: bool
    ) -> Sequence[StoredMessage]:
        place = messages.c.position
        query = (
            select(*_STORED)
            .where(_inside(user_id, session_id))
            .order_by(place.desc() if descending else place)
            .limit(limit)
        )
        if cursor is not None:
            query = query.where(place < cursor if descending else place > cursor)
        async with self._database.read() as connection:
            found = [StoredMessage(*row) for row in await connection.execute(query)]
            if not found:
                await check_session(connection, user_id, session_id)
        return found

    async def message(self, user_id: str, session_id: str, message_id: str) -> StoredMessage:
        query = select(*_STORED).where(_inside(user_id, session_id), messages.c.message_id == message_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise MessageNotFound(message_id)
        return StoredMessage(*row)

    @uses_disk_reserve
    async def remove(self, user_id: str, session_id: str, message_id: str) -> None:
        this = and_(_inside(user_id, session_id), messages.c.message_id == message_id)
        async with self._database.write() as connection:
            await self._index.remove(connection, select(messages.c.position).where(this))
            result = await connection.execute(delete(messages).where(this))
        if result.rowcount == 0:
            raise MessageNotFound(message_id)

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
        place = messages.c.position
        inside = _inside(user_id, session_id)
        async with self._database.write() as connection:
            newest = select(func.max(place)).where(inside)
            of_run = newest.where(messages.c.run_id == run_id)
            last = (await connection.execute(of_run)).scalar()
            if last is None:
                await check_session(connection, user_id, session_id)
            if before:
                end = (await connection.execute(of_run.where(messages.c.message_id == before))).scalar()
                if end is None:
                    raise MessageNotFound(before)
                last = end - 1
            elif last is None or not always:
                end = (await connection.execute(newest)).scalar() or 0
                last = end if last is None else last
                if last == end and not always:
                    return False
            now = time.time()
            session = {"user_id": user_id, "session_id": new_session_id, "metadata": ""}
            await connection.execute(
                self._database.insert(sessions).values(**session, created_at=now, updated_at=now)
            )
            columns = [column for column in messages.c if column.name != "position"]
            copies = [literal(new_session_id) if c.name == "session_id" else c for c in columns]
            rows = select(*copies).where(inside, place <= last).order_by(place)
            await connection.execute(self._database.insert(messages).from_select(columns, rows))
        return True

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
        return await self._index.search(user_id, query, session_id, limit, roles, types)

    async def index_pending(self, limit: int = 2000) -> int:
        return await self._index.index_pending(limit)

    async def _insert(
        self, connection: AsyncConnection, rows: Sequence[dict[str, object]]
    ) -> Sequence[StoredMessage]:
        insert = self._database.insert(messages).on_conflict_do_nothing().returning(*_STORED)
        stored = [StoredMessage(*row) for row in await connection.execute(insert, rows)]
        return sorted(stored, key=lambda message: message.position)


def _is(user_id: str, session_id: str) -> ColumnElement[bool]:
    return and_(sessions.c.user_id == user_id, sessions.c.session_id == session_id)


def _inside(user_id: str, session_id: str) -> ColumnElement[bool]:
    return and_(messages.c.user_id == user_id, messages.c.session_id == session_id)


def _records() -> "Select[str, str, float, float, int, str]":
    count = (
        select(func.count())
        .where(messages.c.user_id == sessions.c.user_id, messages.c.session_id == sessions.c.session_id)
        .scalar_subquery()
    )
    return select(
        sessions.c.user_id,
        sessions.c.session_id,
        sessions.c.created_at,
        sessions.c.updated_at,
        count,
        sessions.c.metadata,
    )


async def check_session(connection: AsyncConnection, user_id: str, session_id: str) -> None:
    """Raise SessionNotFound unless the session exists."""
    if not (await connection.execute(select(exists().where(_is(user_id, session_id))))).scalar():
        raise SessionNotFound(session_id)


def _row(user_id: str, session_id: str, message: NewMessage) -> dict[str, object]:
    return {
        "user_id": user_id,
        "session_id": session_id,
        "message_id": message.message_id,
        "role": message.role,
        "text": encode_text(message.text, message.payload),
        "payload": encode_plain(message.payload),
        "created_at": message.created_at,
        "run_id": message.run_id,
        "type": message.type,
    }
