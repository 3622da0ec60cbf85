"""The run log in a SQLite file. It uses the driver without SQLAlchemy, because commits are the hot path."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from portico.core.errors import FencedOut, RunNotFound, StoreFull, StoreUnavailable
from portico.core.stores.disk_reserve import uses_disk_reserve
from portico.core.stores.ports.stores import Chunk, Commit, RunFilter, RunRecord
from portico.core.stores.sql.compression import decompress
from portico.core.stores.sql.epoch_fence import EpochFence
from portico.core.stores.sql.schema import IS_EPHEMERAL
from portico.core.stores.sqlite.connection_thread import CallThread
from portico.core.stores.sqlite.database_file import INCREMENTAL, SqliteFile
from portico.core.stores.sqlite.database_lock import DatabaseLock
from portico.core.stores.sqlite.log.background_compression import find_step, rewrite, store_step
from portico.core.stores.sqlite.log.log_writer import IS_UNFINISHED, RUN_COLUMNS, flush, load_unflushed, write
from portico.core.stores.sqlite.log.maintenance import Maintenance, release_pages
from portico.core.stores.sqlite.log.run_deletion import delete_batch, partially_deleted_runs
from portico.core.stores.sqlite.log.run_queries import SELECT_RUNS, select_count, select_ended, select_page
from portico.core.stores.sqlite.log.wal_checkpoint import Checkpointer
from portico.core.stores.sqlite.log.wal_identity import WalIdentity, check_wal_belongs
from portico.core.stores.sqlite.sqlite_errors import translate_sqlite_errors

_T = TypeVar("_T")

# The most steps in which the pages that one transaction freed on a full disk are returned to the disk.
RESTORE_STEPS = 8

# Starts at the chunk that holds the event after the cursor, or at the first chunk after it.
_READ = (
    "SELECT run_id, first, last, data FROM run_events WHERE run_id = ?1 AND last > ?2 AND first >= coalesce("
    "(SELECT max(first) FROM run_events WHERE run_id = ?1 AND first <= ?2 + 1), 0) ORDER BY first"
)
_ROW = "SELECT data FROM run_events WHERE run_id = ? AND first = ?"
_LAST = "SELECT run_id, first, last, data FROM run_events WHERE run_id = ? ORDER BY first DESC LIMIT 1"


class SqliteRunLog:
    """A RunLog with one connection and thread for writing, and one of each for reading."""

    def __init__(
        self,
        file: SqliteFile,
        turn: asyncio.Lock | None = None,
        lock: DatabaseLock | None = None,
        owner: EpochFence | None = None,
    ) -> None:
        """Open the run log.

        Args:
            file: The database file, migrated to the newest schema.
            turn: Held by every writer of this process while it writes.
            lock: Released after the last write.
            owner: The ownership to check; without one the log claims ownership of the database.

        Raises:
            StoreUnavailable: The database can't be used.
        """
        # Writers of this process take turns; otherwise SQLite would find the file locked, and sleep.
        self._turn = turn or asyncio.Lock()
        settled = check_wal_belongs(file.path)
        with translate_sqlite_errors():
            self._writing = file.connect()
            self._reading = file.connect()
            # Claim before reading the tails: the tails would lack later writes of the previous owner.
            self.owner = owner or EpochFence.take_ownership(self._writing)
            self._tails = load_unflushed(self._writing)
        self._writer = CallThread("portico-log-writer")
        self._reader = CallThread("portico-log-reader")
        base = WalIdentity(file.path, settled, self._writing, self.owner)
        self._checkpointer = Checkpointer(file, self._writer, self._writing, self._turn, base)
        self._upkeep = Maintenance(self)
        self._lock = lock
        self._closed = False

    async def commit(self, commit: Commit) -> None:
        if commit.runs or commit.chunks or commit.messages:
            try:
                async with self._turn:
                    await self._on(self._writer, self._commit, commit)
            except StoreFull:
                # Deletes may have left free pages in the database for the content of the write-ahead log;
                # then a WAL checkpoint succeeds and frees the log's disk space.
                with suppress(StoreUnavailable):
                    await self.checkpoint_wal()
                raise
            self._upkeep.wrote()

    async def get(self, run_id: str) -> RunRecord:
        rows = await self._select("run_id = ?", run_id)
        if not rows:
            raise RunNotFound(run_id)
        return rows[0]

    async def get_by_idempotency_key(self, user_id: str, key: str) -> RunRecord | None:
        rows = await self._select(
            # The plus keeps the query planner from scanning all runs of the user in this order.
            "user_id = ? AND idempotency_key = ? ORDER BY +created_at, run_id LIMIT 1",
            user_id,
            key,
        )
        return rows[0] if rows else None

    async def list(
        self, where: RunFilter, before: tuple[float, str] | None, limit: int, *, by_status: bool = False
    ) -> Sequence[RunRecord]:
        sql, values = select_page(where, before, limit, by_status=by_status)
        rows = await self._on(self._reader, self._fetch, sql, values)
        return [_record(row) for row in rows]

    async def count(self, where: RunFilter) -> int:
        rows = await self._on(self._reader, self._fetch, *select_count(where))
        number: int = rows[0][0]
        return number

    async def read(self, run_id: str, after: int, max_bytes: int) -> Sequence[Chunk]:
        return await self._on(self._reader, self._read, run_id, after, max_bytes)

    async def last(self, run_id: str) -> Chunk | None:
        return await self._on(self._reader, self._last, run_id)

    def tail_bytes(self, run_ids: Sequence[str]) -> int:
        """Return the bytes of these runs' chunks that are only in segments. Can be called in any thread."""
        return sum(len(chunk.data) for run_id in run_ids for chunk in self._tails.of(run_id))

    async def recent_keys(self, prefix: str, since: float) -> Sequence[RunRecord]:
        return await self._select(
            "created_at >= ? AND substr(idempotency_key, 1, ?) = ? ORDER BY created_at, run_id",
            since,
            len(prefix),
            prefix,
        )

    async def unfinished(self) -> Sequence[RunRecord]:
        # Row ids increase in order of arrival, even if the clock went back.
        return await self._select(f"{IS_UNFINISHED} ORDER BY rowid")

    async def ephemeral_leftovers(self) -> Sequence[RunRecord]:
        return await self._select(f"{IS_EPHEMERAL} AND NOT {IS_UNFINISHED}")

    async def delete(self, run_id: str) -> None:
        if await self.delete_all([run_id]) == 0:
            raise RunNotFound(run_id)

    async def delete_all(self, run_ids: Sequence[str]) -> int:
        number = 0
        left = run_ids
        while left:
            found, left = await self._remove_some(left)
            number += found
            await self.record_write()
        return number

    @uses_disk_reserve
    async def _remove_some(self, run_ids: Sequence[str]) -> tuple[int, Sequence[str]]:
        async with self._turn:
            return await self._on(self._writer, delete_batch, self._writing, self._tails, run_ids, self.owner)

    async def finish_removals(self) -> None:
        """Finish deletes that a crash interrupted."""
        await self.delete_all(await self._on(self._writer, partially_deleted_runs, self._writing))

    async def record_write(self) -> None:
        """Record a write by another store; return when more may be written to the write-ahead log."""
        if not self._closed:
            self._upkeep.wrote()
            await self._checkpointer.checkpoint_if_due()

    async def of_user(self, user_id: str, limit: int) -> Sequence[str]:
        sql = "SELECT run_id FROM runs WHERE user_id = ? LIMIT ?"
        return [run_id for (run_id,) in await self._on(self._reader, self._fetch, sql, (user_id, limit))]

    async def ended(self, before: float, limit: int) -> Sequence[str]:
        rows = await self._on(self._reader, self._fetch, *select_ended(before, limit))
        return [run_id for (run_id,) in rows]

    async def open_room(self) -> None:
        """Prepare a delete on a full disk, after the disk reserve was released. The caller holds the turn."""
        await self._checkpointer.cut_in_turn()
        # Freed pages need no overwriting, because they are cut off the file.
        await self._on(self._writer, self._set, "PRAGMA secure_delete = FAST")

    async def close_room(self) -> None:
        """Return the pages that the delete freed to the disk. The caller holds the turn."""
        with suppress(StoreUnavailable):
            await self._on(self._writer, self._set, "PRAGMA secure_delete = ON")
            for _ in range(RESTORE_STEPS):
                number = await self._on(
                    self._writer, partial(release_pages, keep=False), self._writing, self.owner
                )
                await self._checkpointer.cut_in_turn()
                if not number:
                    return

    async def probe(self) -> None:
        """Test whether the database can be written, by writing a page without a change."""
        async with self._turn:
            await self._on(self._writer, self._probe)

    async def rewrite(self) -> None:
        """Rewrite the file, without segments and without remains of deleted rows. Commits wait for it."""
        async with self._turn:
            await self._on(self._writer, self._rewrite)

    async def checkpoint_wal(self) -> bool:
        """Empty the write-ahead log, unless a reader needs it; return whether it is empty."""
        self._check_open()
        return await self._checkpointer.truncate()

    async def pack(self) -> bool:
        """Compress some stored rows; return whether any were left to examine."""
        step = await self._checkpointer.read(find_step)
        if step is not None:
            async with self._turn:
                await self._on(self._writer, store_step, self._writing, step, self.owner)
            await self._checkpointer.checkpoint_if_due()
        return step is not None

    async def give_back(self) -> int:
        """Return some of the file's free pages to the disk, if there are many; return how many."""
        async with self._turn:
            number = await self._on(self._writer, release_pages, self._writing, self.owner)
        await self._checkpointer.checkpoint_if_due()
        return number

    async def check_owner(self) -> None:
        """Raise FencedOut if another core owns the database."""
        await self._on(self._reader, self.owner.check, self._reading)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._upkeep.stop()
            await self._checkpointer.stop()
            await asyncio.to_thread(self._close)

    async def _on(self, thread: CallThread, call: Callable[..., _T], *args: Any) -> _T:
        self._check_open()
        with translate_sqlite_errors():
            try:
                return await thread.call(call, *args)
            except FencedOut:
                self.owner.lost.set()
                raise

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    async def _select(self, condition: str, *values: Any) -> Sequence[RunRecord]:
        rows = await self._on(self._reader, self._fetch, SELECT_RUNS + condition, values)
        return [_record(row) for row in rows]

    def _fetch(self, sql: str, values: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
        return self._reading.execute(sql, values).fetchall()

    def _last(self, run_id: str) -> Chunk | None:
        tail = self._tails.of(run_id)
        if tail:
            return tail[-1]
        rows = self._fetch(_LAST, (run_id,))
        return self._chunk(rows[0]) if rows else None

    def _read(self, run_id: str, after: int, max_bytes: int) -> Sequence[Chunk]:
        tail = self._tails.of(run_id)
        cursor = self._reading.execute(_READ, (run_id, after))
        chunks: list[Chunk] = []
        size = 0
        for row in cursor:
            chunk = self._chunk(row)
            size += len(chunk.data)
            if chunks and size > max_bytes:
                cursor.close()  # ends the read, which would delay WAL checkpoints
                return chunks
            chunks.append(chunk)
        last = chunks[-1].last if chunks else after
        for chunk in tail:
            if chunk.last > last:
                size += len(chunk.data)
                if chunks and size > max_bytes:
                    break
                chunks.append(chunk)
        return chunks

    def _chunk(self, row: Sequence[Any]) -> Chunk:
        run_id, first, last, data = row
        return Chunk(run_id, first, last, decompress(data, partial(self._row, run_id)))

    def _row(self, run_id: str, first: int) -> bytes:
        rows = self._fetch(_ROW, (run_id, first))
        if not rows:
            raise RunNotFound(run_id)  # deleted during the read
        return decompress(rows[0][0])

    def _commit(self, commit: Commit) -> None:
        self._checkpointer.written(write(self._writing, commit, self._tails, self.owner))

    def _set(self, pragma: str) -> None:
        self._writing.execute(pragma).close()

    def _probe(self) -> None:
        self._writing.execute("BEGIN IMMEDIATE").close()  # the checkpointer changes user_version too
        try:
            self.owner.check(self._writing)
            (version,) = self._writing.execute("PRAGMA user_version").fetchone()
            self._writing.execute(f"PRAGMA user_version = {int(version)}").close()
            self._writing.execute("COMMIT").close()
        except BaseException:
            with suppress(sqlite3.Error):
                self._writing.execute("ROLLBACK").close()
            raise

    def _rewrite(self) -> None:
        flush(self._writing, self._tails, self.owner)
        self._writing.execute(INCREMENTAL).close()  # for a file of an older release
        rewrite(self._writing)

    def _close(self) -> None:
        self._reader.close()
        self._reading.close()
        self._writer.close()
        self._checkpointer.close()
        try:
            flush(self._writing, self._tails, self.owner)
            self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        except (sqlite3.Error, FencedOut):
            pass  # the content of segments and of the write-ahead log stays there, and is durable
        finally:
            self._writing.close()
            if self._lock is not None:
                self._lock.release()


def _record(row: Sequence[Any]) -> RunRecord:
    values = dict(zip(RUN_COLUMNS, row, strict=True))
    values["background"] = bool(values["background"])
    return RunRecord(**values)
