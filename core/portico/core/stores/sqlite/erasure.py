"""Erases what deleted things leave behind in a SQLite database's files.

Rows are overwritten as they are deleted. Their words are also elsewhere: in
search indexes, in the log's segments, which many runs share, between the rows
of pages that were once split, and in the write-ahead log, which has every page
as it was. So the file is written anew, which takes some ten seconds a gigabyte.
"""

import asyncio

from portico.core.errors import StoreUnavailable
from portico.core.stores.sql.database import Database
from portico.core.stores.sqlite.full_text_index import forget_deleted
from portico.core.stores.sqlite.log.run_log import SqliteRunLog

TRIES = 100
RETRY_SECONDS = 0.05


class SqliteErasure:
    """The erasure of one database."""

    def __init__(self, database: Database, runs: SqliteRunLog) -> None:
        self._database = database
        self._runs = runs
        self._erasing = asyncio.Lock()
        self._begun = 0
        self._done = 0

    async def erase(self) -> None:
        """Reads go on meanwhile, commits wait. Raises StoreUnavailable when it can't be done now."""
        # Who is gone before it is done leaves it to itself: to stop half-way would be in others' way.
        task = asyncio.ensure_future(self._erase(self._begun + 1))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(task)

    async def _erase(self, needed: int) -> None:
        """Many who come while one is under way need only one more among them."""
        async with self._erasing:
            if self._done >= needed:
                return
            self._begun = number = self._begun + 1
            await forget_deleted(self._database)
            await self._rewrite()
            self._done = number

    async def _rewrite(self) -> None:
        await self._runs.rewrite()
        for _ in range(TRIES):
            if await self._runs.cut():
                return
            # Somebody reads what is only there. Nobody does so for long.
            await asyncio.sleep(RETRY_SECONDS)
        raise StoreUnavailable("the database is being read by another process; ask again when it has ended")
