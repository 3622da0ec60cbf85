"""A write-ahead log beside another database is refused."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from portico.core.errors import StoreUnavailable
from portico.core.integrity import doctor
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import MemoryRecord, Stores
from portico.core.stores.sqlite.log.run_log import SqliteRunLog
from portico.core.stores.sqlite.log.wal_identity import check_wal_belongs


async def add(stores: Stores, *texts: str) -> None:
    await stores.memories.add(
        [MemoryRecord(f"mem_{text}", "ada", "", text, created_at=1.0) for text in texts]
    )


async def cut(stores: Stores) -> bool:
    """Copy the whole log into the database."""
    assert isinstance(stores.runs, SqliteRunLog)
    return await stores.runs.checkpoint_wal()


async def texts_in(path: Path) -> set[str]:
    """The rows that a core finds."""
    stores = await open_stores(f"sqlite:///{path}")
    found = {memory.text for memory in await stores.memories.list("ada", None, None, 200)}
    await stores.close()
    return found


def crashed(path: Path, to: Path) -> Path:
    """Copy the files that a core would leave if it were killed now."""
    to.mkdir()
    for name in ("portico.db", "portico.db-wal", "portico.db.base"):
        shutil.copy(path.with_name(name), to / name)
    return to / "portico.db"


def back_up(path: Path, to: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


async def test_a_backup_beside_the_log_of_what_came_later_is_refused(tmp_path: Path) -> None:
    path, backup = tmp_path / "portico.db", tmp_path / "backup.db"
    stores = await open_stores(f"sqlite:///{path}")
    await add(stores, "first")
    back_up(path, backup)
    await add(stores, "second")
    assert await cut(stores)
    await add(stores, "third")
    left = crashed(path, tmp_path / "left")
    await stores.close()
    shutil.copy(backup, left)
    before = [file.read_bytes() for file in sorted(left.parent.iterdir())]
    with pytest.raises(StoreUnavailable, match=r"portico\.db-wal is not the write-ahead log of portico\.db"):
        await open_stores(f"sqlite:///{left}")
    assert doctor.main(["--store", f"sqlite:///{left}"]) == 1
    ours = ("portico.db", "portico.db-wal", "portico.db.base")
    assert [left.with_name(name).read_bytes() for name in ours] == before
    # Do what the message says.
    left.with_name("portico.db-wal").unlink()
    assert await texts_in(left) == {"first"}
    # The core starts, and still checks the log.
    assert await texts_in(left) == {"first"}


async def test_a_backup_of_the_same_base_becomes_what_was_before(tmp_path: Path) -> None:
    """Without a WAL checkpoint since the backup, the log contains everything that the backup lacks."""
    path, backup = tmp_path / "portico.db", tmp_path / "backup.db"
    stores = await open_stores(f"sqlite:///{path}")
    await add(stores, "first")
    assert await cut(stores)
    await add(stores, "second")
    back_up(path, backup)
    await add(stores, "third")
    left = crashed(path, tmp_path / "left")
    await stores.close()
    shutil.copy(backup, left)
    assert await texts_in(left) == {"first", "second", "third"}


async def test_a_restore_into_a_folder_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "portico.db"
    stores = await open_stores(f"sqlite:///{path}")
    await add(stores, "first")
    assert await cut(stores)
    await add(stores, "second")
    (tmp_path / "new").mkdir()
    back_up(path, tmp_path / "new" / "portico.db")
    await add(stores, "third")
    await stores.close()
    assert await texts_in(tmp_path / "new" / "portico.db") == {"first", "second"}


@pytest.mark.parametrize("cuts", [0, 1, 3])
@pytest.mark.parametrize("says", ["what it should", "nothing", "rubbish", "half"])
async def test_a_crash_leaves_what_belongs_together(cuts: int, says: str, tmp_path: Path) -> None:
    path = tmp_path / "portico.db"
    stores = await open_stores(f"sqlite:///{path}")
    expected = set()
    for number in range(cuts):
        await add(stores, f"before{number}")
        expected.add(f"before{number}")
        assert await cut(stores)
    await add(stores, "last")
    left = crashed(path, tmp_path / "left")
    base = left.with_name("portico.db.base")
    match says:
        case "nothing":
            base.unlink()
        case "rubbish":
            base.write_bytes(b"\xff" * 22)
        case "half":
            base.write_bytes(base.read_bytes()[:5])
    await stores.close()
    assert await texts_in(left) == expected | {"last"}


async def test_a_file_that_can_t_be_written_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "portico.db"
    path.with_name("portico.db.base").mkdir()
    stores = await open_stores(f"sqlite:///{path}")
    await add(stores, "first")
    assert await cut(stores)
    await stores.close()
    assert await texts_in(path) == {"first"}


_WRITE = """
import asyncio, sys
from portico.core.stores.ports.stores import Chunk, Commit, RunRecord
from portico.core.stores.open_stores import open_stores

async def main():
    stores = await open_stores(sys.argv[1])
    name = sys.argv[2]
    run = RunRecord(name, "a", "u", "s", "in_progress", 1, 1, 0, 1, False, None, b"", b"")
    await stores.runs.commit(Commit([run]))
    print("begun", flush=True)
    number = 0
    while True:
        await stores.runs.commit(Commit(chunks=[Chunk(name, number, number, bytes(500_000))]))
        number += 1
        print(number, flush=True)

asyncio.run(main())
"""


async def test_a_core_that_is_killed_between_checkpoints_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "portico.db"
    for attempt, commits in enumerate((3, 9, 14, 23, 31, 40)):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITE, f"sqlite:///{path}", f"r{attempt}"], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(commits):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        check_wal_belongs(path)
    stores = await open_stores(f"sqlite:///{path}")
    assert len(await stores.runs.read("r5", -1, 100_000_000)) >= 39
    await stores.close()
