import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from portico.core.errors import RunNotFound, StoreUnavailable
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import Chunk, Commit, NewMessage, NewSession, RunRecord
from portico.core.stores.sql.database import Database, sqlite_engine
from portico.core.stores.sql.epoch_fence import EpochFence
from portico.core.stores.sql.states import SqlStateStore
from portico.core.stores.sqlite.database_file import SqliteFile
from portico.core.stores.sqlite.log import wal_checkpoint
from portico.core.stores.sqlite.log.run_log import SqliteRunLog
from portico.core.stores.sqlite.migrate import migrate

RUN = RunRecord("r1", "agent", "ada", "s1", "in_progress", 1.0, 1.0, 0, 1, False, None, b"q", b"")
SESSION = NewSession("ada", "s1", 1.0)
MESSAGE = NewMessage("ada", "s1", "m1", "user", "penguin", b"p", 1.0, "r1")


@pytest.fixture
def file(tmp_path: Path) -> SqliteFile:
    made = SqliteFile(tmp_path / "x.db", busy_seconds=0.05)
    migrate(made)
    return made


@pytest.fixture
async def log(file: SqliteFile) -> AsyncIterator[SqliteRunLog]:
    opened = SqliteRunLog(file)
    yield opened
    await opened.close()


def owner_of(file: SqliteFile) -> EpochFence:
    """An ownership that was claimed while the file was writable."""
    with closing(file.connect()) as connection:
        return EpochFence.take_ownership(connection)


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    stores = await open_stores(url)
    await stores.runs.commit(Commit([RUN], [Chunk("r1", 0, 3, b"events")], [MESSAGE], [SESSION]))
    state = await stores.states.save("ada", "s1", None, "{}", None)
    await stores.close()
    stores = await open_stores(url)
    assert await stores.runs.get("r1") == RUN
    assert await stores.runs.read("r1", 1, 10) == [Chunk("r1", 0, 3, b"events")]
    assert await stores.states.get("ada", "s1", None) == state
    assert [hit.message.message_id for hit in await stores.sessions.search("ada", "penguins", None, 5)] == [
        "m1"
    ]
    await stores.close()


_WRITE_AND_HANG = """
import asyncio, sys
from portico.core.stores.ports.stores import Chunk, Commit, RunRecord
from portico.core.stores.open_stores import open_stores

async def main():
    stores = await open_stores(sys.argv[1])
    run = RunRecord("r1", "a", "u", "s", "in_progress", 1, 1, 0, 1, False, None, b"", b"")
    await stores.runs.commit(Commit([run]))
    for number in range(100):
        await stores.runs.commit(Commit(chunks=[Chunk("r1", number, number, b"x")]))
    print("written", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_what_commit_returned_from_survives_a_kill(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    process = subprocess.Popen([sys.executable, "-c", _WRITE_AND_HANG, url], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    stores = await open_stores(url)
    assert len(await stores.runs.read("r1", -1, 1000)) == 100
    await stores.close()


async def test_a_commit_that_fails_in_its_last_statement_writes_nothing(log: SqliteRunLog) -> None:
    broken = replace(MESSAGE, payload=cast(Any, None))
    with pytest.raises(sqlite3.IntegrityError):
        await log.commit(Commit([RUN], [Chunk("r1", 0, 0, b"x")], [MESSAGE, broken], [SESSION]))
    with pytest.raises(RunNotFound):
        await log.get("r1")
    assert await log.last("r1") is None
    await log.commit(Commit([RUN]))
    assert await log.get("r1") == RUN


class ReadOnly(SqliteFile):
    def set_up(self, connection: sqlite3.Connection) -> None:
        super().set_up(connection)
        connection.execute("PRAGMA query_only = ON")


class Full(SqliteFile):
    def set_up(self, connection: sqlite3.Connection) -> None:
        super().set_up(connection)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}").close()


@pytest.mark.parametrize(
    ("kind", "words"), [(ReadOnly, "the database is read-only"), (Full, "the disk is full")]
)
async def test_a_file_that_takes_no_writes_is_unavailable_but_read(
    kind: type[SqliteFile], words: str, file: SqliteFile
) -> None:
    log = SqliteRunLog(kind(file.path), owner=owner_of(file))
    for commit in (
        Commit(chunks=[Chunk("r1", 0, 0, b"x" * 10_000_000)]),
        Commit([RUN], [Chunk("r1", 0, 0, b"x" * 10_000_000)], [MESSAGE]),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            await log.commit(commit)
        assert str(caught.value) == words
    assert await log.unfinished() == []
    await log.close()


async def test_a_full_disk_is_unavailable_for_the_other_stores_too(file: SqliteFile) -> None:
    database = Database(sqlite_engine(Full(file.path)), asyncio.Lock(), owner_of(file))
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        await SqlStateStore(database).save("ada", "s1", None, "x" * 10_000_000, None)
    await database.close()


async def test_a_file_that_another_process_holds_is_unavailable_until_it_lets_go(
    log: SqliteRunLog, file: SqliteFile
) -> None:
    other = file.connect()
    other.execute("BEGIN IMMEDIATE")
    for commit in (Commit([RUN]), Commit([RUN], [Chunk("r1", 0, 0, b"x")])):
        with pytest.raises(StoreUnavailable, match="locked"):
            await log.commit(commit)
    other.execute("ROLLBACK")
    other.close()
    await log.commit(Commit([RUN]))
    assert await log.get("r1") == RUN


async def test_the_write_ahead_log_does_not_grow_for_ever(
    file: SqliteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_checkpoint, "EVERY_BYTES", 100_000)
    monkeypatch.setattr(wal_checkpoint, "FORCE_TRUNCATE_PAGES", 100)
    log = SqliteRunLog(file)
    write_ahead_log = Path(f"{file.path}-wal")
    written = 0
    # The time depends on the disk; without WAL checkpoints it would never happen.
    while written < 10_000_000 or write_ahead_log.stat().st_size > written / 2:
        await log.commit(Commit(chunks=[Chunk("r1", written, written, os.urandom(50_000))]))
        written += 50_000
    assert sum(len(chunk.data) for chunk in await log.read("r1", -1, 2**30)) == written
    await log.close()
