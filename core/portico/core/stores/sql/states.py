"""The store of states in a SQL database."""

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Select, and_, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from portico.core.errors import EtagMismatch, StateNotFound
from portico.core.stores.deletion_steps import STEP_ROWS
from portico.core.stores.disk_reserve import uses_disk_reserve
from portico.core.stores.ports.stores import StateRecord
from portico.core.stores.sql.database import Database
from portico.core.stores.sql.row_deletion import delete_states
from portico.core.stores.sql.schema import states
from portico.core.stores.sql.sessions import check_session

_COLUMNS = states.c
_KEY = (_COLUMNS.user_id, _COLUMNS.session_id, _COLUMNS.part, _COLUMNS.round_id)


class SqlStateStore:
    """StateStore in a SQL database. `save` numbers rounds in a transaction, so no two saves get the same."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(
        self,
        user_id: str,
        session_id: str,
        round_id: int | None,
        state: str,
        etag: str | None,
        part: str = "",
    ) -> StateRecord:
        async with self._database.write() as connection:
            if part:
                await check_session(connection, user_id, session_id)
            if round_id is None or etag is not None:
                stored = await _stored(connection, _of(user_id, session_id, round_id, part))
                if etag is not None and etag != ("*" if stored is None else stored[1]):
                    raise EtagMismatch("" if stored is None else stored[1])
                if round_id is None:
                    round_id = 1 if stored is None else stored[0] + 1
            record = StateRecord(user_id, session_id, round_id, state, uuid4().hex, time.time())
            insert = self._database.insert(states).values(
                user_id=user_id,
                session_id=session_id,
                part=part,
                round_id=round_id,
                state=state,
                etag=record.etag,
                updated_at=record.updated_at,
            )
            await connection.execute(
                insert.on_conflict_do_update(
                    index_elements=_KEY,
                    set_={name: insert.excluded[name] for name in ("state", "etag", "updated_at")},
                )
            )
        return record

    async def get(self, user_id: str, session_id: str, round_id: int | None, part: str = "") -> StateRecord:
        query = (
            _records(_COLUMNS.state)
            .where(_of(user_id, session_id, round_id, part))
            .order_by(_COLUMNS.round_id.desc())
            .limit(1)
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise StateNotFound(session_id)
        return StateRecord(*row)

    async def list(
        self, user_id: str, session_id: str | None, after: tuple[str, int] | None, limit: int
    ) -> Sequence[StateRecord]:
        query = (
            _records(literal(""))
            .where(_of(user_id, session_id, None, ""))
            .order_by(_COLUMNS.session_id, _COLUMNS.round_id)
            .limit(limit)
        )
        if after is not None:
            query = query.where(tuple_(_COLUMNS.session_id, _COLUMNS.round_id) > after)
        async with self._database.read() as connection:
            return [StateRecord(*row) for row in await connection.execute(query)]

    async def delete(
        self, user_id: str, session_id: str | None, round_id: int | None, part: str | None = None
    ) -> int:
        number = 0
        whole = False
        while not whole:
            found, whole = await self._delete_some(_of(user_id, session_id, round_id, part), STEP_ROWS)
            number += found
        return number

    async def expire(self, before: float, limit: int) -> int:
        number, _ = await self._delete_some(_COLUMNS.updated_at < before, limit)
        return number

    @uses_disk_reserve
    async def _delete_some(self, doomed: ColumnElement[bool], limit: int) -> tuple[int, bool]:
        async with self._database.write() as connection:
            return await delete_states(connection, doomed, limit)


def _records(state: ColumnElement[str]) -> "Select[Any]":
    return select(
        _COLUMNS.user_id,
        _COLUMNS.session_id,
        _COLUMNS.round_id,
        state,
        _COLUMNS.etag,
        _COLUMNS.updated_at,
    )


def _of(user_id: str, session_id: str | None, round_id: int | None, part: str | None) -> ColumnElement[bool]:
    terms = [_COLUMNS.user_id == user_id]
    if session_id is not None:
        terms.append(_COLUMNS.session_id == session_id)
    if part is not None:
        terms.append(_COLUMNS.part == part)
    if round_id is not None:
        terms.append(_COLUMNS.round_id == round_id)
    return and_(*terms)


async def _stored(connection: AsyncConnection, where: ColumnElement[bool]) -> tuple[int, str] | None:
    """Return the number and etag of the greatest matching round, or None."""
    query = select(_COLUMNS.round_id, _COLUMNS.etag).where(where).order_by(_COLUMNS.round_id.desc()).limit(1)
    row = (await connection.execute(query)).first()
    return None if row is None else (row[0], row[1])
