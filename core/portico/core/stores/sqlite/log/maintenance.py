"""Reduces the disk space of a SQLite database in the background.

New rows are not compressed, deleted rows leave free pages in the file, and the file of
the write-ahead log keeps its size until it is cut. Maintenance handles all three in small
steps between commits, with rests that are longer than the steps. It cuts the log when
there are no writes.
"""

import asyncio
import logging
import sqlite3
import time
from typing import Protocol

from portico.core.errors import StoreUnavailable
from portico.core.stores.sql.epoch_fence import EpochFence
from portico.telemetry.log.retry_log import RetryLog

log = logging.getLogger(__name__)

IDLE_SECONDS = 2.0
KEPT_PAGES = 1024  # free pages to keep for later writes: these, or an eighth of the file if that is more
STEP_PAGES = 128  # pages per step, since a commit may have to wait for it
REST_FACTOR = 4.0  # the wait after a step, as a multiple of the step's duration
BUSY_REST = 100.0  # the same for compression during writes, which can wait until there are none

_INCREMENTAL = 2


class MaintainedLog(Protocol):
    """The database to maintain."""

    async def finish_removals(self) -> None: ...

    async def pack(self) -> bool: ...

    async def give_back(self) -> int: ...

    async def checkpoint_wal(self) -> bool: ...


class Maintenance:
    """The maintenance task. It starts with a write, and ends when nothing is left to do."""

    def __init__(self, database: MaintainedLog) -> None:
        self._database = database
        self._writes = 0
        self._refused, self._defects = RetryLog(), RetryLog()
        self._task: asyncio.Task[None] | None = None
        self._busy_until = 0.0

    def wrote(self) -> None:
        """Record a write; start the task unless it runs."""
        self._writes += 1
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="database-upkeep")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        removed = False
        while True:
            seen = self._writes
            await asyncio.sleep(IDLE_SECONDS)
            try:
                if not removed:
                    await self._database.finish_removals()
                    removed = True
                # Compression continues without long pauses only while there are no writes.
                done = not await self._pack(seen)
                done = not await self._shrink() and done
                if (
                    done
                    and seen == self._writes
                    and await self._database.checkpoint_wal()
                    and seen == self._writes
                ):
                    break
            except StoreUnavailable as error:
                if self._refused.due():
                    log.warning("maintenance of the database was refused, will retry: %s", error)
            except Exception:
                if self._defects.due():
                    log.exception("maintenance of the database failed; will retry")
        self._task = None

    async def _pack(self, seen: int) -> bool:
        """Compress everything while there are no writes, otherwise a step now and then.

        Returns whether there was anything to compress.
        """
        any_packed = False
        while seen == self._writes or time.monotonic() >= self._busy_until:
            began = time.monotonic()
            if not await self._database.pack():
                return any_packed
            any_packed = True
            took = time.monotonic() - began
            self._busy_until = began + took * BUSY_REST
            await asyncio.sleep(took * REST_FACTOR)
        return True

    async def _shrink(self) -> bool:
        """Return free pages to the disk; return whether there were any."""
        any_given = False
        while True:
            began = time.monotonic()
            if not await self._database.give_back():
                return any_given
            any_given = True
            await asyncio.sleep((time.monotonic() - began) * REST_FACTOR)


def release_pages(connection: sqlite3.Connection, owner: EpochFence, *, keep: bool = True) -> int:
    """Cut free pages off the end of the file, in one transaction; return how many.

    A file of an older release has no pointer map, so none can be cut off until the file is rewritten.

    Args:
        connection: The writing connection.
        owner: The ownership to check.
        keep: Keep some free pages for later writes.

    Raises:
        FencedOut: Another core owns the database.
    """
    owner.check(connection)
    (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    if mode != _INCREMENTAL:
        return 0
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    kept = max(KEPT_PAGES, (pages - free) // 8) if keep else 0
    number: int = min(free - kept, STEP_PAGES)
    if number <= 0:
        return 0
    # The pragma frees one page per result row, and `execute` would fetch only the first row.
    connection.executescript(f"PRAGMA incremental_vacuum({number})").close()
    return number
