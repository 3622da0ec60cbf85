"""Transactions through SQLAlchemy, for all stores but the run log, which uses the driver directly."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Dialect, Table, bindparam, event, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, ExceptionContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from portico.core.errors import FencedOut, StoreUnavailable
from portico.core.stores.sql.epoch_fence import SLOT, EpochFence
from portico.core.stores.sql.schema import owners
from portico.core.stores.sql.write_lock import MAX_WAIT_SECONDS, acquire_within
from portico.core.stores.sqlite.database_file import SqliteFile
from portico.core.stores.sqlite.sqlite_errors import translate_sqlite_errors

_CONNECTIONS = 4
_WRITES = "portico_writes"
# FOR SHARE keeps the next owner from claiming until the transaction ends, in a database that locks rows.
_IS_OWNED = (
    select(owners.c.slot)
    .where(owners.c.slot == SLOT, owners.c.epoch == bindparam("epoch"))
    .with_for_update(read=True)
)


class Database:
    """Transactions on an engine, while a run log writes to the same database."""

    def __init__(
        self,
        engine: AsyncEngine,
        turn: asyncio.Lock,
        owner: EpochFence,
        wrote: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Create it on an open engine.

        Args:
            engine: The engine for reading and writing.
            turn: Held by every writer of this process while it writes.
            owner: The ownership that each writing transaction checks.
            wrote: Called after each writing transaction; returns when more may be written.
        """
        self._owner = owner
        self._reading = engine
        self._writing = engine.execution_options(**{_WRITES: True})
        self._turn = turn
        self._wrote = wrote
        # Only one writer of this class at a time waits for the turn, so a commit of the run log waits for
        # at most one of them.
        self._queue = asyncio.Lock()
        self._closed = False

    @property
    def dialect(self) -> Dialect:
        return self._reading.dialect

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection for reading; each statement sees the commits made before it began."""
        self._check_open()
        with translate_sqlite_errors():
            async with self._reading.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Yield an exclusive writing transaction; an exception rolls it back. Raises FencedOut."""
        self._check_open()
        with translate_sqlite_errors():
            async with acquire_within(self._queue, self._turn), self._writing.begin() as connection:
                if (await connection.execute(_IS_OWNED, {"epoch": self._owner.epoch})).first() is None:
                    self._owner.lost.set()
                    raise FencedOut
                yield connection
            if self._wrote is not None:
                await self._wrote()

    def insert(self, table: Table) -> "sqlite.Insert | postgresql.Insert":
        """Return an INSERT statement of the dialect, which supports ON CONFLICT."""
        return postgresql.insert(table) if self.dialect.name == "postgresql" else sqlite.insert(table)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._reading.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")


def sqlite_engine(file: SqliteFile) -> AsyncEngine:
    """Return an engine on a SQLite file. Its transactions are controlled by SQLAlchemy, not by the driver."""
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(file.path)),
        connect_args={"timeout": file.busy_seconds, "isolation_level": None},
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=MAX_WAIT_SECONDS,
    )

    def connected(connection: Any, record: object) -> None:
        file.set_up(connection)

    def began(connection: Connection) -> None:
        # A transaction that reads first and writes later fails if another wrote in between, unless it
        # took the write lock at its beginning. A single read needs no transaction.
        if connection.get_execution_options().get(_WRITES):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def failed(context: ExceptionContext) -> None:
        # A cancelled call is rolled back after the current statement. SQLAlchemy would close the connection
        # instead, and its transaction would stay open as long as a reference to one of its cursors exists.
        if isinstance(context.original_exception, asyncio.CancelledError):
            context.is_disconnect = False

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "handle_error", failed)
    event.listen(engine.sync_engine, "begin", began)
    return engine
