"""Moves the write-ahead log into the database, so that no commit has to."""

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from portico.core.errors import StoreFull, StoreUnavailable
from portico.core.stores.sqlite.connection_thread import CallThread
from portico.core.stores.sqlite.database_file import SqliteFile
from portico.core.stores.sqlite.log.wal_identity import WalBase
from portico.core.stores.sqlite.sqlite_errors import plain_failures
from portico.telemetry.rarely import Rarely

_T = TypeVar("_T")

log = logging.getLogger(__name__)

EVERY_BYTES = 4 * 1024 * 1024
LONG_PAGES = 8 * 1024  # a log of this length is cut even if that holds up a commit


class Checkpointer:
    """A thread and a connection of its own. `written` belongs to the writer's thread."""

    def __init__(
        self,
        file: SqliteFile,
        writer: CallThread,
        writing: sqlite3.Connection,
        turn: asyncio.Lock,
        base: WalBase,
    ) -> None:
        self._connection = file.connect()
        self._base = base
        self._thread = CallThread("portico-checkpoint")
        self._writer = writer
        self._writing = writing
        self._turn = turn
        self._cutting = asyncio.Lock()
        self._file = file.path
        self._path = file.path.with_name(f"{file.path.name}-wal")
        self._written = 0
        self._size_before = 0
        self._failing = Rarely()
        self._busy = False

    def written(self, size_bytes: int) -> None:
        """Count what the log grew by."""
        self._written += size_bytes
        if self._written >= EVERY_BYTES and not self._busy:
            self._written = 0
            self._busy = True
            self._thread.post(self._checkpoint)

    async def keep_up(self) -> None:
        """Behind a write of which nobody knows how much it adds to the log: return when the log's file has
        not grown much since it was last cut, or is cut again, unless somebody reads it."""
        size = self.log_bytes
        self._size_before = min(self._size_before, size)
        if size - self._size_before >= EVERY_BYTES:
            try:
                await self.cut()
            except StoreUnavailable as error:
                if self._failing.due():
                    log.warning("the write-ahead log was not cut: %s", error)
            self._size_before = self.log_bytes

    async def cut(self) -> bool:
        """Empty the log, unless somebody reads it; whether it is empty."""
        async with self._cutting:
            if not self.log_bytes:
                return True
            # Commits go on meanwhile, and wait only while the little is copied that they have added.
            await self._thread.call(self._passive, self._connection)
            async with self._turn:
                with plain_failures():
                    return await self._writer.call(self._cut, self._writing)

    async def read(self, look: Callable[[sqlite3.Connection], _T]) -> _T:
        """What it finds on this connection, in this thread: long work that is in nobody's way."""
        with plain_failures():
            return await self._thread.call(look, self._connection)

    async def cut_in_turn(self) -> None:
        """For who has the turn: empty the log as far as that can be done now."""
        try:
            with plain_failures():
                await self._writer.call(self._cut, self._writing)
        except StoreUnavailable as error:
            log.debug("the write-ahead log was not cut: %s", error)

    @property
    def log_bytes(self) -> int:
        """The size of the log's file, of which much may be old."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def close(self) -> None:
        """Blocks until the checkpoint under way is done."""
        self._thread.close()
        self._connection.close()

    def _checkpoint(self) -> None:
        try:
            pages = self._passive(self._connection)
            if pages > LONG_PAGES:
                # Under constant writing the log never ends while somebody copies it. On the writer's
                # own thread it does, and little is left to copy there; then the log starts anew.
                self._writer.post(partial(self._passive, self._writing))
        finally:
            self._busy = False

    def _passive(self, connection: sqlite3.Connection) -> int:
        """Copy what can be copied without waiting for anybody; how long the log is, in pages."""
        try:
            with plain_failures():
                _check_fits(connection, self._file)
                self._base.begin(connection)
                busy, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except StoreUnavailable as error:
            # Nothing is lost: the log only grows until a checkpoint succeeds.
            # Health tells of a full disk, once.
            level = logging.DEBUG if isinstance(error, StoreFull) else logging.WARNING
            log.log(level, "the write-ahead log was not checkpointed: %s", error)
            return 0
        if not busy and copied == pages:
            self._base.complete()
        return int(pages)

    def _cut(self, connection: sqlite3.Connection) -> bool:
        """The rest, and the cut; without waiting for readers."""
        _check_fits(connection, self._file)
        self._base.begin(connection)
        (milliseconds,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute("PRAGMA busy_timeout = 0").close()
        try:
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.execute(f"PRAGMA busy_timeout = {milliseconds}").close()
        if not busy:
            self._base.complete()
        return not busy


def _check_fits(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StoreFull when the database would have to grow by more than the disk has room for: a checkpoint
    that fails half-way has taken that room, and copied nothing."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    growth = pages * page_bytes - path.stat().st_size
    if growth > 0:
        disk = os.statvfs(path)
        if growth > disk.f_bavail * disk.f_frsize:
            raise StoreFull("the disk is full")
