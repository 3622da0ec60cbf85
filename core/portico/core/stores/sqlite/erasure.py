"""Erases the remains of deleted data in a SQLite database's files.

Deleted rows are overwritten at once. Their content is also in other places: in search
indexes, in segments, which many runs share, in unused space of pages that were split,
and in the write-ahead log, which contains earlier versions of pages. So the file is
rewritten, which takes about ten seconds per gigabyte.
"""

import asyncio

from portico.core.errors import StoreUnavailable
from portico.core.stores.sql.database import Database
from portico.core.stores.sqlite.full_text_index import merge_deleted
from portico.core.stores.sqlite.log.run_log import SqliteRunLog

TRIES = 100
RETRY_SECONDS = 0.05


class SqliteErasure:
    """Erases the remains of deleted data in one database."""

    def __init__(self, database: Database, runs: SqliteRunLog) -> None:
        self._database = database
        self._runs = runs
        self._erasing = asyncio.Lock()
        self._begun = 0
        self._done = 0

    async def erase(self) -> None:
        """Erase the remains of everything deleted before. Commits wait, reads continue.

        Raises StoreUnavailable when it fails.
        """
        # A cancelled caller does not cancel the erasure, because other callers may wait for it.
        task = asyncio.ensure_future(self._erase(self._begun + 1))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(task)

    async def _erase(self, needed: int) -> None:
        """Erase, unless erasure number `needed` is done: all callers during one erasure share the next."""
        async with self._erasing:
            if self._done >= needed:
                return
            self._begun = number = self._begun + 1
            await merge_deleted(self._database)
            await self._rewrite()
            self._done = number

    async def _rewrite(self) -> None:
        await self._runs.rewrite()
        for _ in range(TRIES):
            if await self._runs.checkpoint_wal():
                return
            # A reader still needs the write-ahead log. No reader of the core takes long.
            await asyncio.sleep(RETRY_SECONDS)
        raise StoreUnavailable("another process is reading the database; retry when it has finished")
