"""A database is copied before its migration."""

import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from support.a2a_gateways import scripted_agents
from support.revisions import database_at
from support.serving import running_core

from portico.client import Client
from portico.core.errors import StoreUnavailable
from portico.core.integrity.database_check import DatabaseCheck
from portico.core.stores.sqlite import migration_copies
from portico.core.stores.sqlite.database_file import SqliteFile
from portico.core.stores.sqlite.migrate import migrate, newest, revision_of, revisions
from portico.core.stores.sqlite.migration_copies import copy_before_migration, list_copies

OLDER = sorted(revisions() - {newest()})


def add_session(file: SqliteFile, name: str) -> sqlite3.Connection:
    """Insert a row, which stays in the write-ahead log as long as the connection is open."""
    connection = file.connect()
    connection.execute(f"INSERT INTO sessions SELECT ?, ?, 1, 1, {_rest(connection)}", ("ada", name))
    return connection


def _rest(connection: sqlite3.Connection) -> str:
    """Empty texts for the columns of `sessions` after the first four, of which revisions differ."""
    columns = connection.execute("PRAGMA table_info(sessions)").fetchall()
    return ", ".join("''" for _ in columns[4:])


def sessions(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT session_id FROM sessions ORDER BY 1")]


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return revision_of(connection)


@pytest.mark.parametrize("older", OLDER)
def test_a_database_of_an_older_release_is_copied_whole(older: str, tmp_path: Path) -> None:
    file = database_at(older, tmp_path / "100%[x].db")
    before = os.umask(0)
    try:
        with closing(add_session(file, "in the log")):
            migrate(file, copy=True)
    finally:
        os.umask(before)
    (copy,) = list_copies(file.path)
    assert copy.name == f"{file.path.name}.before-{newest()}"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert (revision(copy), revision(file.path)) == (older, newest())
    assert sessions(copy) == sessions(file.path) == ["in the log"]
    audit = DatabaseCheck(copy)
    assert not audit.file_problems()
    audit.close()
    # The copy is a single, complete file.
    assert not list(tmp_path.glob("*.partial*")) + list(tmp_path.glob(f"{copy.name}-*"))


def test_what_is_new_or_up_to_date_is_not_copied(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "x.db")
    for _ in range(2):
        migrate(file, copy=True)
    assert list_copies(file.path) == []
    migrate(database_at(OLDER[-1], tmp_path / "y.db"), copy=False)
    assert list_copies(tmp_path / "y.db") == []


def test_the_newest_copies_stay(tmp_path: Path) -> None:
    file = database_at(OLDER[0], tmp_path / "x.db")
    for number, name in enumerate(["0101", "0102", "0103", "0103"]):
        with closing(add_session(file, f"s{number}")) as connection:
            copy = copy_before_migration(connection, file.path, name)
        os.utime(copy, (number, number))
    assert [path.name for path in list_copies(file.path)] == ["x.db.before-0103", "x.db.before-0102"]
    assert len(sessions(copy)) == 4


def test_without_room_for_a_copy_nothing_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = database_at(OLDER[-1], tmp_path / "x.db")
    monkeypatch.setattr(migration_copies, "SPARE_BYTES", 1 << 60)
    with pytest.raises(StoreUnavailable, match=r"MiB of the disk are free.*--no-migration-copy"):
        migrate(file, copy=True)
    assert revision(file.path) == OLDER[-1]
    migrate(file, copy=False)
    assert revision(file.path) == newest()


def test_what_an_interrupted_copy_left_is_removed(tmp_path: Path) -> None:
    file = database_at(OLDER[-1], tmp_path / "x.db")
    (tmp_path / f"x.db.before-{newest()}.abc.partial").write_bytes(b"half")
    migrate(file, copy=True)
    assert [path.name for path in tmp_path.glob("x.db.before-*")] == [f"x.db.before-{newest()}"]


@pytest.mark.parametrize("older", ["0001", OLDER[-1]])
async def test_a_core_says_where_the_copy_is_and_starts_from_it_elsewhere(
    older: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "old").mkdir()
    file = database_at(older, tmp_path / "old" / "portico.db")
    add_session(file, "kept").close()
    store = f"sqlite:///{file.path}"
    async with running_core(scripted_agents(), tmp_path, store=store):
        pass
    (copy,) = list_copies(file.path)
    assert str(copy) in caplog.text
    # Restore the older release's database in another folder: the only way to undo a migration.
    (tmp_path / "new").mkdir()
    shutil.copy(copy, tmp_path / "new" / "portico.db")
    assert revision(tmp_path / "new" / "portico.db") == older
    store = f"sqlite:///{tmp_path}/new/portico.db"
    async with (
        running_core(scripted_agents(), tmp_path, store=store, migration_copy=False) as server,
        Client(server.addresses[0]) as client,
    ):
        assert (await client.sessions.get("kept", user_id="ada")).session_id == "kept"
    assert list_copies(tmp_path / "new" / "portico.db") == []
