"""Gives the disk back what a SQLite database no longer needs.

What is written is larger than it need be, deleted rows leave free pages in the file,
and the write-ahead log's file stays as long as it was until that is cut. All is seen to
a little at a time, between commits, with rests that are longer than the work; the log is
cut when nobody writes.
"""

import asyncio
import logging
import sqlite3
import time
from typing import Protocol

from portico.core.errors import StoreUnavailable
from portico.core.stores.sql.epoch_fence import Owner
from portico.telemetry.rarely import Rarely

log = logging.getLogger(__name__)

IDLE_SECONDS = 2.0
KEPT_PAGES = 1024  # free pages that stay for what comes next, and an eighth of the file
STEP_PAGES = 128  # that a commit may have to wait for
REST = 4.0  # how long it waits after a step, in times that the step took
BUSY_REST = 100.0  # the same for what can wait until nobody writes

_INCREMENTAL = 2


class Kept(Protocol):
    """The database that is kept tidy."""

    async def finish_removals(self) -> None: ...

    async def pack(self) -> bool: ...

    async def give_back(self) -> int: ...

    async def cut(self) -> bool: ...


class Upkeep:
    """Works from the first write until nothing is left to do, and again with the next."""

    def __init__(self, database: Kept) -> None:
        self._database = database
        self._writes = 0
        self._refused, self._defects = Rarely(), Rarely()
        self._task: asyncio.Task[None] | None = None
        self._busy_until = 0.0

    def wrote(self) -> None:
        """There may be something to do soon."""
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
                # Without pause only while nobody writes.
                done = not await self._pack(seen)
                done = not await self._shrink() and done
                if done and seen == self._writes and await self._database.cut() and seen == self._writes:
                    break
            except StoreUnavailable as error:
                if self._refused.due():
                    log.warning("the database's file could not be tidied yet: %s", error)
            except Exception:
                if self._defects.due():
                    log.exception("tidying the database's file failed; it is tried again")
        self._task = None

    async def _pack(self, seen: int) -> bool:
        """All while nobody writes, otherwise a step now and then. Whether there was anything to compress."""
        any_packed = False
        while seen == self._writes or time.monotonic() >= self._busy_until:
            began = time.monotonic()
            if not await self._database.pack():
                return any_packed
            any_packed = True
            took = time.monotonic() - began
            self._busy_until = began + took * BUSY_REST
            await asyncio.sleep(took * REST)
        return True

    async def _shrink(self) -> bool:
        """Whether there was anything to give back."""
        any_given = False
        while True:
            began = time.monotonic()
            if not await self._database.give_back():
                return any_given
            any_given = True
            await asyncio.sleep((time.monotonic() - began) * REST)


def give_back(connection: sqlite3.Connection, owner: Owner, *, keep: bool = True) -> int:
    """Cut free pages off the file's end, in one transaction; how many. None of a file that was made without a
    map of its pages: that is what an older release did, until the file is written anew. Raises FencedOut."""
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
    # It has a row without columns for each page, of which `execute` would take the first only.
    connection.executescript(f"PRAGMA incremental_vacuum({number})").close()
    return number
