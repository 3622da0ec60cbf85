"""A SQLite database returns free space to the disk, in bounded steps."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from portico.core.errors import SessionNotFound, StoreUnavailable
from portico.core.stores import deletion_steps
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import (
    Chunk,
    Commit,
    MemoryRecord,
    NewMessage,
    NewSession,
    RunRecord,
    Stores,
)
from portico.core.stores.sqlite.database_file import KEPT_LOG_BYTES
from portico.core.stores.sqlite.log import maintenance, run_deletion
from portico.core.stores.sqlite.log.run_log import SqliteRunLog
from portico.core.stores.sqlite.log.wal_checkpoint import used_bytes

RUN = RunRecord("r1", "agent", "ada", "s1", "completed", 1.0, 1.0, 0, 1, False, None, b"q", b"")
MEGABYTE = 1024 * 1024


class Database:
    """Stores in a SQLite file, with the sizes of its files."""

    def __init__(self, stores: Stores, path: Path) -> None:
        self.stores = stores
        self.path = path

    @property
    def log(self) -> SqliteRunLog:
        assert isinstance(self.stores.runs, SqliteRunLog)
        return self.stores.runs

    def size(self) -> int:
        return self.path.stat().st_size

    def log_size(self) -> int:
        return self.path.with_name(f"{self.path.name}-wal").stat().st_size

    async def add(self, run_id: str, size: int, *, session_id: str = "s1") -> None:
        run = replace(RUN, run_id=run_id, session_id=session_id)
        parts = [os.urandom(256 * 1024) for _ in range(size // (256 * 1024))]
        chunks = [Chunk(run_id, number, number, part) for number, part in enumerate(parts)]
        await self.log.commit(Commit([run], chunks))

    async def settled(self) -> None:
        """Return when the file of the write-ahead log is cut."""
        async with asyncio.timeout(60):
            while self.log_size():
                await asyncio.sleep(0.01)

    async def shrunk(self, size: int) -> None:
        """Return when the database's file is smaller than `size`."""
        async with asyncio.timeout(60):
            while self.size() > size:
                await asyncio.sleep(0.01)


@pytest.fixture
async def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(maintenance, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(maintenance, "REST_FACTOR", 0.0)
    path = tmp_path / "portico.db"
    opened = Database(await open_stores(f"sqlite:///{path}"), path)
    yield opened
    await opened.stores.close()


async def test_after_a_deletion_the_files_shrink_while_the_database_is_open(database: Database) -> None:
    for number in range(10):
        await database.add(f"r{number}", 3 * MEGABYTE)
    await database.settled()
    assert database.size() > 30 * MEGABYTE
    await database.log.delete_all([f"r{number}" for number in range(10)])
    # Without cuts during the delete the log would contain everything that was deleted.
    assert database.log_size() < KEPT_LOG_BYTES + 4 * MEGABYTE
    await database.shrunk(6 * MEGABYTE)
    # Later writes are intact.
    await database.add("after", MEGABYTE)
    assert sum(len(chunk.data) for chunk in await database.log.read("after", -1, 1 << 30)) == MEGABYTE
    with closing(sqlite3.connect(database.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_every_store_keeps_the_write_ahead_log_short(database: Database) -> None:
    stores = database.stores
    most = 0
    text = "penguin " * (MEGABYTE // 8)
    for number in range(20):
        await stores.states.save("ada", "s1", None, f'"{text}"', None)
        await stores.memories.add([MemoryRecord(f"m{number}", "ada", "s1", text, 1.0)])
        said = NewMessage("ada", "s1", f"n{number}", "user", text, text.encode(), 1.0)
        await stores.runs.commit(Commit(sessions=[NewSession("ada", "s1", 1.0)], messages=[said]))
        most = max(most, database.log_size())
    # 80 MB were written through the log.
    assert most < 24 * MEGABYTE
    most = 0
    for deletion in (
        stores.states.delete("ada", None, None),
        stores.memories.delete("ada", None, None),
        stores.sessions.delete("ada", "s1"),
    ):
        await database.settled()
        await deletion
        most = max(most, database.log_size())
    assert most < 16 * MEGABYTE
    assert not await stores.states.list("ada", None, None, 10)
    assert not await stores.memories.list("ada", None, None, 10)
    assert not await stores.sessions.list("ada", None, 10)


async def test_a_write_behind_a_long_log_does_not_wait_for_the_checkpoint(database: Database) -> None:
    checkpointer = database.log._checkpointer
    let_go = threading.Event()
    checkpointer._thread.post(let_go.wait)  # a checkpoint on a disk that is busy
    await database.add("r1", 9 * MEGABYTE)
    async with asyncio.timeout(20):
        await database.stores.memories.add([MemoryRecord("m1", "ada", "s1", "penguin", 1.0)])
    assert used_bytes(database.path.with_name("portico.db-wal")) > 9 * MEGABYTE
    let_go.set()
    await database.settled()


async def test_what_an_earlier_log_left_in_the_file_is_not_counted(database: Database) -> None:
    wal = database.path.with_name("portico.db-wal")
    await database.add("r1", 3 * MEGABYTE)
    assert used_bytes(wal) > 3 * MEGABYTE
    with closing(sqlite3.connect(database.path)) as other:
        assert other.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
        other.execute("UPDATE owners SET epoch = epoch")
        other.commit()
        ((_, frames, _),) = other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        assert used_bytes(wal) == frames * (24 + 4096) < wal.stat().st_size


async def test_a_log_that_somebody_reads_is_cut_when_they_have_gone(database: Database) -> None:
    await database.add("r1", MEGABYTE)
    with closing(sqlite3.connect(database.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM runs").fetchall()
        await database.add("r2", MEGABYTE)
        await asyncio.sleep(0.3)
        assert database.log_size() > 0
    await database.settled()


async def test_free_pages_stay_where_a_file_has_few(database: Database) -> None:
    await database.add("r1", 2 * MEGABYTE)
    await database.settled()
    before = database.size()
    await database.log.delete("r1")
    await asyncio.sleep(0.3)
    await database.settled()
    assert database.size() == before


async def test_a_file_of_an_older_release_keeps_its_pages_until_it_is_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(maintenance, "REST_FACTOR", 0.0)
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").close()
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    database = Database(await open_stores(f"sqlite:///{path}"), path)
    await database.add("r1", 8 * MEGABYTE)
    await database.log.delete("r1")
    await asyncio.sleep(0.3)
    await database.settled()
    assert database.size() > 8 * MEGABYTE
    await database.stores.erase()
    assert database.size() < MEGABYTE
    await database.add("r1", 8 * MEGABYTE)
    await database.log.delete("r1")
    await database.shrunk(6 * MEGABYTE)
    await database.stores.close()


async def test_what_a_step_has_no_room_for_is_removed_by_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_deletion, "STEP_BYTES", 300 * 1024)
    taken = []
    remove = run_deletion.delete_batch

    def counted(*args: object) -> object:
        taken.append(1)
        return remove(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("portico.core.stores.sqlite.log.run_log.delete_batch", counted)
    for name in ("r1", "r2", "r3"):
        await database.add(name, MEGABYTE)
    assert await database.log.delete_all(["r1", "gone", "r2"]) == 2
    assert len(taken) > 6
    assert await database.log.read("r1", -1, 1 << 30) == []
    assert len(await database.log.read("r3", -1, 1 << 30)) == 4
    with closing(sqlite3.connect(database.path)) as connection:
        assert connection.execute("SELECT * FROM deleted_runs").fetchall() == []


async def test_a_removal_that_was_cut_off_is_finished_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(run_deletion, "STEP_BYTES", 300 * 1024)
    path = tmp_path / "portico.db"
    database = Database(await open_stores(f"sqlite:///{path}"), path)
    await database.add("r1", MEGABYTE)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # The state that a core leaves that is killed after the first step.
        connection.execute("DELETE FROM runs WHERE run_id = 'r1'")
        connection.execute("DELETE FROM run_events WHERE run_id = 'r1' AND first = 3")
        connection.execute("INSERT INTO deleted_runs VALUES ('r1')")
    await database.stores.close()
    database = Database(await open_stores(f"sqlite:///{path}"), path)
    await database.add("r2", MEGABYTE)
    await database.settled()
    assert await database.log.read("r1", -1, 1 << 30) == []
    assert len(await database.log.read("r2", -1, 1 << 30)) == 4
    await database.stores.close()


async def test_a_session_that_is_deleted_in_steps_is_gone_in_whole(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion_steps, "STEP_BYTES", 1000)
    sessions = database.stores.sessions
    await sessions.create("ada", "s1", "")
    await sessions.create("ada", "s2", "")
    for session_id in ("s1", "s2"):
        said = [
            NewMessage("ada", session_id, f"m{number}", "user", "penguin", b"x" * 300, 5.0)
            for number in range(20)
        ]
        await sessions.append("ada", session_id, said)
    await sessions.index_pending()
    await sessions.delete("ada", "s1")
    with pytest.raises(SessionNotFound):
        await sessions.messages("ada", "s1", None, 10, False)
    with pytest.raises(SessionNotFound):
        await sessions.delete("ada", "s1")
    assert len(await sessions.search("ada", "penguin", None, 100)) == 20
    assert len(await sessions.messages("ada", "s2", None, 100, False)) == 20


async def test_upkeep_goes_on_behind_a_failure(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0
    cut = database.log.checkpoint_wal

    async def moody() -> bool:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StoreUnavailable("the disk is full")
        return await cut()

    monkeypatch.setattr(database.log, "checkpoint_wal", moody)
    await database.add("r1", MEGABYTE)
    await database.settled()
    assert "the disk is full" in caplog.text
