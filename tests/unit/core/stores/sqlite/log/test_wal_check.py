"""The check of a write-ahead log after its writer was killed."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

import pytest

from portico.core.stores.sqlite.database_lock import DatabaseLock
from portico.core.stores.sqlite.log import wal_check
from portico.core.stores.sqlite.log.wal_check import WalLoss, WalUnknown, find_lost_commits

FRAME = 24 + 4096
WRITER = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA page_size = " + sys.argv[2])
for pragma in ("journal_mode = WAL", "wal_autocheckpoint = 0", "synchronous = normal"):
    connection.execute(f"PRAGMA {pragma}").close()
connection.execute("CREATE TABLE IF NOT EXISTS t (a, b)")
for number in range(50):
    connection.execute("INSERT INTO t VALUES (?, randomblob(9000))", (number,))
    if number == 30 and "copy" in sys.argv or number == 49 and "copy all" in sys.argv:
        # A reader keeps the log from being restarted.
        reader = sqlite3.connect(sys.argv[1], isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM t").fetchall()
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").close()
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(path: Path, *, page: int = 4096, copy: str = "") -> None:
    """Create a database whose writer was killed."""
    done = subprocess.run([sys.executable, "-c", WRITER, str(path), str(page), copy], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    lock = DatabaseLock(path)
    lock.acquire()
    lock.record_boot()
    lock.release()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "portico.db"


def wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def damage(path: Path, place: int) -> None:
    content = bytearray(wal(path).read_bytes())
    content[place] ^= 0x40
    wal(path).write_bytes(content)


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


@pytest.mark.parametrize("page", [512, 4096, 65536])
def test_a_log_that_is_whole_has_lost_nothing(path: Path, page: int) -> None:
    killed(path, page=page)
    assert find_lost_commits(path) is None
    assert rows(path) == 50


@pytest.mark.parametrize("page", [512, 4096, 65536])
def test_a_damaged_byte_loses_what_is_behind_it(path: Path, page: int) -> None:
    killed(path, page=page)
    frames = wal(path).stat().st_size // (24 + page)
    damage(path, 32 + (24 + page) * (frames // 2) + 300)
    loss = find_lost_commits(path)
    assert loss is not None
    assert 0 < loss.readable <= frames // 2 < loss.committed == frames
    assert loss.lost == frames - loss.readable
    assert find_lost_commits(path) == loss, "to look changes nothing"
    # SQLite itself reports no error.
    assert 0 < rows(path) < 50


@pytest.mark.parametrize("place", [0, 5, 17, 28, 32, 32 + 9, 32 + 20])
def test_a_damaged_header_loses_everything(path: Path, place: int) -> None:
    killed(path)
    damage(path, place)
    loss = find_lost_commits(path)
    assert loss is not None
    assert (loss.readable, loss.lost) == (0, loss.committed)


@pytest.mark.parametrize("length", [0, 10, 32, 32 + 100, 32 + FRAME * 20 + 17])
def test_a_log_that_was_cut_is_short(path: Path, length: int) -> None:
    killed(path)
    os.truncate(wal(path), length)
    loss = find_lost_commits(path)
    assert loss is not None
    assert loss.readable <= length // FRAME


def test_a_log_that_was_removed_is_missed(path: Path) -> None:
    killed(path)
    wal(path).unlink()
    loss = find_lost_commits(path)
    assert loss is not None
    assert loss.readable == 0
    assert "remove portico.db-wal and portico.db-shm" in loss.words("portico.db")


def test_what_is_in_the_database_already_is_not_lost(path: Path) -> None:
    killed(path, copy="copy all")
    wal(path).unlink()
    assert find_lost_commits(path) is None
    assert rows(path) == 50


def test_old_frames_are_not_read_over_a_newer_database(path: Path) -> None:
    killed(path, copy="copy all")
    damage(path, 32 + FRAME * 20 + 300)
    loss = find_lost_commits(path)
    assert loss is not None
    assert loss.lost == 0
    for end in ("-wal", "-shm"):
        assert f"portico.db{end}" in loss.words("portico.db").rpartition("remove")[2]
        path.with_name(f"{path.name}{end}").unlink()
    assert rows(path) == 50


@pytest.mark.parametrize("frame", [20, 120])
def test_the_words_say_which_files_to_remove(path: Path, frame: int) -> None:
    killed(path, copy="copy")
    damage(path, 32 + FRAME * frame + 300)
    loss = find_lost_commits(path)
    assert loss is not None
    remove = loss.words("portico.db").rpartition("remove")[2]
    # The database's content may be newer or older than that of the frames before the damage.
    assert ("-wal" in remove) is (loss.copied > loss.readable)
    for end in ("-wal", "-shm"):
        if end in remove:
            path.with_name(f"{path.name}{end}").unlink()
    kept = max(loss.copied, loss.readable)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert rows(path) >= 30 if kept == loss.copied else rows(path) > 30


def test_nobody_can_tell_without_the_index(path: Path) -> None:
    killed(path)
    path.with_name("portico.db-shm").unlink()
    with pytest.raises(WalUnknown, match="the -shm file, is missing"):
        find_lost_commits(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 32768, b"\xff" * 32768, os.urandom(32768)])
def test_an_index_that_is_not_whole_says_nothing(path: Path, content: bytes) -> None:
    killed(path)
    path.with_name("portico.db-shm").write_bytes(content)
    with pytest.raises(WalUnknown):
        find_lost_commits(path)


def test_a_log_of_another_time_says_nothing(path: Path, tmp_path: Path) -> None:
    killed(path)
    other = tmp_path / "other.db"
    killed(other)
    shutil.copy(wal(other), wal(path))
    with pytest.raises(WalUnknown, match="restarted or replaced"):
        find_lost_commits(path)


def test_nobody_can_tell_once_the_machine_was_started_anew(path: Path) -> None:
    killed(path)
    path.with_name("portico.db.lock").write_text("another boot")
    assert find_lost_commits(path) is None
    damage(path, 32 + FRAME * 20 + 300)
    with pytest.raises(WalUnknown, match="machine was restarted"):
        find_lost_commits(path)


def test_there_is_nothing_to_tell_of_a_database_that_was_closed(path: Path) -> None:
    assert find_lost_commits(path) is None
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").close()
        connection.execute("CREATE TABLE t (a)")
    assert find_lost_commits(path) is None


def test_a_log_that_is_written_meanwhile_is_whole(path: Path) -> None:
    ended = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL").close()
            connection.execute("PRAGMA wal_autocheckpoint = 20").close()
            connection.execute("CREATE TABLE t (a, b)")
            while not ended.is_set():
                connection.execute("INSERT INTO t VALUES (1, randomblob(9000))")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(200):
            with suppress(WalUnknown):
                assert find_lost_commits(path) is None
    finally:
        ended.set()
        writer.join()


@pytest.mark.parametrize("swapped", [False, True])
def test_the_checksum_is_sqlites(swapped: bool) -> None:
    data = os.urandom(4096 + 8)
    order: Literal["big", "little"] = "big" if swapped == (sys.byteorder == "little") else "little"
    s0, s1 = 0xDEADBEEF, 0xFFFFFFFF
    for place in range(0, len(data), 8):
        s0 = (s0 + int.from_bytes(data[place : place + 4], order) + s1) & 0xFFFFFFFF
        s1 = (s1 + int.from_bytes(data[place + 4 : place + 8], order) + s0) & 0xFFFFFFFF
    assert wal_check._sum(data, (0xDEADBEEF, 0xFFFFFFFF), swapped=swapped) == (s0, s1)


def test_words_count_what_is_in_neither_place() -> None:
    assert WalLoss(committed=10, readable=4, copied=0).lost == 6
    assert WalLoss(committed=10, readable=4, copied=7).lost == 3
