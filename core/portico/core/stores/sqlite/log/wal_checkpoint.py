"""WAL checkpoints: copies the write-ahead log into the database in a thread of its own, not in commits."""

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
from portico.core.stores.sqlite.log.wal_identity import WalIdentity
from portico.core.stores.sqlite.sqlite_errors import translate_sqlite_errors
from portico.telemetry.log.retry_log import RetryLog

_T = TypeVar("_T")

log = logging.getLogger(__name__)

EVERY_BYTES = 4 * 1024 * 1024
FORCE_TRUNCATE_PAGES = 8 * 1024  # a write-ahead log of this length is cut even if that delays a commit
# Where writes of unknown size lead to a log of this length, it is made to begin anew, beside those who write.
RESTART_BYTES = 2 * EVERY_BYTES
WAIT_BYTES = 3 * EVERY_BYTES  # from this length on they wait for that
RESTART_TRIES = 4  # to copy all but FEW_BYTES without the writers' turn
FEW_BYTES = 256 * 1024

_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24


class Checkpointer:
    """Runs WAL checkpoints on a thread and a connection of its own. Call `written` in the writer's thread."""

    def __init__(
        self,
        file: SqliteFile,
        writer: CallThread,
        writing: sqlite3.Connection,
        turn: asyncio.Lock,
        base: WalIdentity,
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
        self._checkpointed = 0  # how much of the log the last checkpoint that `keep_up` started has copied
        self._restarting: asyncio.Task[None] | None = None
        self._failing = RetryLog()
        self._busy = False

    def written(self, size_bytes: int) -> None:
        """Add to the bytes written to the log; start a WAL checkpoint every EVERY_BYTES."""
        self._written += size_bytes
        if self._written >= EVERY_BYTES:
            self._post_checkpoint()

    async def checkpoint_if_due(self) -> None:
        """Start a checkpoint when writes of unknown size have made the log longer by EVERY_BYTES.

        The caller's write has been committed, and most of the log may be another caller's. So the checkpoint
        runs beside the writes, and only a caller that finds a very long log waits for it.
        """
        size = used_bytes(self._path)
        if size < self._checkpointed:  # the log has begun anew
            self._checkpointed = 0
        if size - self._checkpointed < EVERY_BYTES:
            return
        if size < RESTART_BYTES:
            self._checkpointed = size
            self._post_checkpoint()
            return
        if self._restarting is None:
            self._restarting = asyncio.create_task(self._restart(), name="checkpoint")
            self._restarting.add_done_callback(self._restarted)
        if size >= WAIT_BYTES:
            await asyncio.shield(self._restarting)

    async def truncate(self) -> bool:
        """Empty the log, unless a reader needs it; return whether it is empty."""
        async with self._cutting:
            if not self.log_bytes:
                return True
            # Commits continue during this copy. They wait only for the copy of the pages that they add.
            await self._thread.call(self._passive, self._connection)
            async with self._turn:
                with translate_sqlite_errors():
                    return await self._writer.call(self._cut, self._writing)

    async def read(self, look: Callable[[sqlite3.Connection], _T]) -> _T:
        """Return the result of `look` on this connection and thread, where long work delays no other."""
        with translate_sqlite_errors():
            return await self._thread.call(look, self._connection)

    async def cut_in_turn(self) -> None:
        """Empty the log if that is possible now. The caller holds the turn."""
        try:
            with translate_sqlite_errors():
                await self._writer.call(self._cut, self._writing)
        except StoreUnavailable as error:
            log.debug("the write-ahead log was not cut: %s", error)

    @property
    def log_bytes(self) -> int:
        """The size of the log's file. Much of it may be frames from before the last WAL checkpoint."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    async def stop(self) -> None:
        """Return when no checkpoint that `keep_up` started is under way. Call it before `close`."""
        if self._restarting is not None:
            await asyncio.gather(self._restarting, return_exceptions=True)

    def close(self) -> None:
        """Stop the thread and close the connection. Blocks until the current WAL checkpoint is done."""
        self._thread.close()
        self._connection.close()

    def _post_checkpoint(self) -> None:
        if not self._busy:
            self._written = 0
            self._busy = True
            self._thread.post(self._checkpoint)

    async def _restart(self) -> None:
        """Copy the whole log into the database: the next write then begins the log anew."""
        async with self._cutting:
            # Without the turn first, so that commits wait only while the last frames are copied.
            for _ in range(RESTART_TRIES):
                before = used_bytes(self._path)
                await self._thread.call(self._passive, self._connection)
                if used_bytes(self._path) - before < FEW_BYTES:
                    break
            async with self._turn:
                await self._writer.call(self._passive, self._writing)
        # A log that is still being read is not tried again before it has grown.
        self._checkpointed = used_bytes(self._path)

    def _restarted(self, task: "asyncio.Task[None]") -> None:
        self._restarting = None
        if not task.cancelled() and (error := task.exception()) is not None and self._failing.due():
            log.warning("the write-ahead log was not checkpointed: %s", error)

    def _checkpoint(self) -> None:
        try:
            pages = self._passive(self._connection)
            if pages > FORCE_TRUNCATE_PAGES:
                # Under constant writes a copy never reaches the end of the log. On the writer's own
                # thread no commit adds to it, and little is left to copy; then the log starts over.
                self._writer.post(partial(self._passive, self._writing))
        finally:
            self._busy = False

    def _passive(self, connection: sqlite3.Connection) -> int:
        """Copy as many pages as possible without waiting for locks; return the log's length in pages."""
        try:
            with translate_sqlite_errors():
                _check_fits(connection, self._file)
                self._base.begin(connection)
                busy, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except StoreUnavailable as error:
            # Nothing is lost: the log only grows until a WAL checkpoint succeeds.
            # A full disk is reported once, by the store's health.
            level = logging.DEBUG if isinstance(error, StoreFull) else logging.WARNING
            log.log(level, "the write-ahead log was not checkpointed: %s", error)
            return 0
        if not busy and copied == pages:
            self._base.complete()
        return int(pages)

    def _cut(self, connection: sqlite3.Connection) -> bool:
        """Copy the rest of the log and truncate it without waiting for readers; return whether it worked."""
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


def used_bytes(wal: Path) -> int:
    """Return how much of a write-ahead log's file is the log, without what is left of earlier logs behind it.

    A log that begins anew gets new salts and is written over the one before, so the frames that have the
    salts of the header come first.
    """
    try:
        file = os.open(wal, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        header = os.pread(file, _HEADER_BYTES, 0)
        if len(header) < _HEADER_BYTES:
            return 0
        frame = _FRAME_HEADER_BYTES + int.from_bytes(header[8:12], "big")
        low, high = 0, (os.fstat(file).st_size - _HEADER_BYTES) // frame
        while low < high:
            middle = (low + high) // 2
            if os.pread(file, 8, _HEADER_BYTES + middle * frame + 8) == header[16:24]:
                low = middle + 1
            else:
                high = middle
        return low * frame
    finally:
        os.close(file)


def _check_fits(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreFull when the database would have to grow by more than the free disk space.

    A WAL checkpoint that fails midway would have used up that space, and copied nothing.
    """
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    growth = pages * page_bytes - path.stat().st_size
    if growth > 0:
        disk = os.statvfs(path)
        if growth > disk.f_bavail * disk.f_frsize:
            raise StoreFull("the disk is full")
