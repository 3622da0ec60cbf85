"""Measures the content of a SQLite file per user or tenant.

It uses the driver without SQLAlchemy, because runs of users that were not measured lately wait for it. It
reads only rows of the measured users, on connections and threads of its own, which it creates at first use.
"""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from portico.core.errors import StoreUnavailable
from portico.core.stores.ports.stored_sizes import SizeScope
from portico.core.stores.sqlite.database_file import SqliteFile
from portico.core.stores.sqlite.log.log_writer import IS_UNFINISHED
from portico.core.stores.sqlite.sqlite_errors import translate_sqlite_errors

_T = TypeVar("_T")

THREADS = 4  # several, so that the measurement of a user with much data does not delay all others
OWNERS = 2_000  # names per query
_TABLES = ("runs", "sessions", "messages", "states", "memories")
_LIVE = f"SELECT run_id FROM runs WHERE {IS_UNFINISHED} AND "  # noqa: S608
# The casts are needed because SQLite before 3.43 has no octet_length. The texts of messages are not summed,
# because their payloads contain them.
_SUM = """
SELECT
  (SELECT total(length(request) + length(summary) + length(answers)) FROM runs WHERE {mine})
+ (SELECT total(length(data)) FROM run_events WHERE run_id IN (SELECT run_id FROM runs WHERE {mine}))
+ (SELECT total(length(result)) FROM run_results WHERE run_id IN (SELECT run_id FROM runs WHERE {mine}))
+ (SELECT total(length(payload)) FROM messages WHERE {mine})
+ (SELECT total(length(CAST(metadata AS BLOB))) FROM sessions WHERE {mine})
+ (SELECT total(length(CAST(state AS BLOB))) FROM states WHERE {mine})
+ (SELECT total(length(CAST(text AS BLOB)) + length(CAST(metadata AS BLOB)) + length(CAST(key AS BLOB)))
  FROM memories WHERE {mine})
"""
_MINE = "user_id = ?1"
_TENANTS = "user_id >= ?1 AND user_id < ?2"
_NO_TENANTS = "NOT (user_id >= ?1 AND user_id < ?2)"
_QUERIES = {mine: (_LIVE + mine, _SUM.format(mine=mine)) for mine in (_MINE, _TENANTS, _NO_TENANTS)}
_NAMES = "SELECT DISTINCT user_id FROM {table} WHERE user_id > ? ORDER BY user_id LIMIT ?"


class SqliteSizeStore:
    """SizeStore of a SQLite file. `tails` returns, in any thread, the bytes of runs' chunks without rows."""

    def __init__(self, file: SqliteFile, tails: Callable[[Sequence[str]], int]) -> None:
        self._file = file
        self._tails = tails
        self._threads = ThreadPoolExecutor(THREADS, "portico-sizes", self._connect)
        self._thread = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False

    async def stored_bytes(self, whose: SizeScope) -> int:
        return await self._on(self._stored_bytes, whose)

    async def owners(self) -> AsyncIterator[Sequence[str]]:
        for table in _TABLES:
            last = ""
            while names := await self._on(self._names, table, last):
                yield names
                last = names[-1]

    async def close(self) -> None:
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()

    async def _on(self, call: Callable[..., _T], *args: object) -> _T:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        with translate_sqlite_errors():
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    def _connect(self) -> None:
        self._thread.connection = self._file.connect()
        self._connections.append(self._thread.connection)

    def _stored_bytes(self, whose: SizeScope) -> int:
        connection: sqlite3.Connection = self._thread.connection
        mine, values = (_MINE, (whose.name,)) if not whose.tenant else (_TENANTS, whose.between)
        live, total = _QUERIES[_NO_TENANTS if whose.tenant and not whose.name else mine]
        # Tails before rows: chunks that become rows in between are counted twice, not missed.
        tails = self._tails([run_id for (run_id,) in connection.execute(live, values)])
        ((rows,),) = connection.execute(total, values)
        return tails + int(rows)

    def _names(self, table: str, after: str) -> Sequence[str]:
        rows = self._thread.connection.execute(_NAMES.format(table=table), (after, OWNERS))
        return [name for (name,) in rows]
