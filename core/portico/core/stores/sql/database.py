"""The SQLAlchemy side of a database: transactions of the stores that are not the run log."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Dialect, Table, bindparam, event, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, ExceptionContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from portico.core.errors import FencedOut, StoreUnavailable
from portico.core.stores.sql.epoch_fence import SLOT, Owner
from portico.core.stores.sql.schema import owners
from portico.core.stores.sql.write_lock import WAIT_SECONDS, in_time
from portico.core.stores.sqlite.database_file import SqliteFile
from portico.core.stores.sqlite.sqlite_errors import plain_failures

_CONNECTIONS = 4
_WRITES = "portico_writes"
# Locked against the next owner until the end of the transaction, where a transaction does not lock all.
_IS_OWNED = (
    select(owners.c.slot)
    .where(owners.c.slot == SLOT, owners.c.epoch == bindparam("epoch"))
    .with_for_update(read=True)
)


class Database:
    """Transactions on an engine, beside a run log that writes to the same database."""

    def __init__(
        self,
        engine: AsyncEngine,
        turn: asyncio.Lock,
        owner: Owner,
        wrote: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`owner` is who writes; nobody else does."""
        self._owner = owner
        self._reading = engine
        self._writing = engine.execution_options(**{_WRITES: True})
        self._turn = turn
        self._wrote = wrote
        # Of those who write here one at a time goes for the turn, so that a commit of the run log waits
        # for one of them at most, however many there are.
        self._queue = asyncio.Lock()
        self._closed = False

    @property
    def dialect(self) -> Dialect:
        return self._reading.dialect

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading; each statement sees what is committed when it begins."""
        self._check_open()
        with plain_failures():
            async with self._reading.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that nobody else writes beside; an exception undoes it. Raises FencedOut."""
        self._check_open()
        with plain_failures():
            async with in_time(self._queue, self._turn), self._writing.begin() as connection:
                if (await connection.execute(_IS_OWNED, {"epoch": self._owner.epoch})).first() is None:
                    self._owner.lost.set()
                    raise FencedOut
                yield connection
            if self._wrote is not None:
                await self._wrote()

    def insert(self, table: Table) -> "sqlite.Insert | postgresql.Insert":
        """An INSERT that may say ON CONFLICT, in words of the dialect."""
        return postgresql.insert(table) if self.dialect.name == "postgresql" else sqlite.insert(table)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._reading.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")


def sqlite_engine(file: SqliteFile) -> AsyncEngine:
    """An engine on a SQLite file whose transactions begin when SQLAlchemy says so."""
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(file.path)),
        connect_args={"timeout": file.busy_seconds, "isolation_level": None},
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=WAIT_SECONDS,
    )

    def connected(connection: Any, record: object) -> None:
        file.set_up(connection)

    def began(connection: Connection) -> None:
        # A transaction that reads first and then writes fails if somebody wrote in between, unless it is
        # a writer from its beginning. A single read needs no transaction.
        if connection.get_execution_options().get(_WRITES):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def failed(context: ExceptionContext) -> None:
        # A call that is cancelled is rolled back behind the statement under way. SQLAlchemy would close the
        # connection, and its transaction stays open as long as anybody refers to a cursor of it.
        if isinstance(context.original_exception, asyncio.CancelledError):
            context.is_disconnect = False

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "handle_error", failed)
    event.listen(engine.sync_engine, "begin", began)
    return engine
