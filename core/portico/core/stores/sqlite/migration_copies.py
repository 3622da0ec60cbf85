"""Copies of a database from before its migrations: there is no way back from a migration but such a copy."""

import glob
import logging
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from portico.core.errors import StoreUnavailable

log = logging.getLogger(__name__)

KEPT = 2  # the newest ones
SPARE_BYTES = 16 * 1024 * 1024  # that the migration itself may need
_PARTIAL = ".partial"


def copy_before(connection: sqlite3.Connection, database: Path, revision: str) -> Path:
    """A copy of the whole database, with what is in its write-ahead log, for its owner alone.

    It is beside the database and named for the revision that comes next. It replaces a copy for the same
    revision; of those for others the newest stay. Blocks. Raises OSError, and StoreUnavailable without room.
    """
    copy = database.with_name(f"{database.name}.before-{revision}")
    for left in database.parent.glob(f"{glob.escape(copy.name)}.*{_PARTIAL}"):
        left.unlink(missing_ok=True)
    _check_room(connection, database)
    file, name = tempfile.mkstemp(_PARTIAL, f"{copy.name}.", database.parent)  # 0600
    os.close(file)
    try:
        with closing(sqlite3.connect(name)) as target:
            connection.backup(target)
        _flush(Path(name))
        os.replace(name, copy)
        _flush(database.parent)
    finally:
        for beside in ("", "-journal", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(name + beside)
    _drop_older(database, copy)
    log.warning("before the migration to revision %s the database was copied to %s", revision, copy)
    return copy


def copies_of(database: Path) -> list[Path]:
    """The newest first."""
    beside = database.parent.glob(f"{glob.escape(database.name)}.before-*")
    found = [path for path in beside if path.suffix != _PARTIAL]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _check_room(connection: sqlite3.Connection, database: Path) -> None:
    ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
    ((page_bytes,),) = connection.execute("PRAGMA page_size").fetchall()
    needed = pages * page_bytes + SPARE_BYTES
    free = shutil.disk_usage(database.parent).free
    if needed > free:
        raise StoreUnavailable(
            f"before its migration the database is copied, which needs {needed // 2**20 + 1} MiB, and "
            f"{free // 2**20} MiB of the disk are free; make room, or turn the copy off with "
            "--no-migration-copy (PORTICO_CORE_MIGRATION_COPY=false)"
        )


def _drop_older(database: Path, newest: Path) -> None:
    for older in [path for path in copies_of(database) if path != newest][KEPT - 1 :]:
        log.info("the older copy %s is removed", older)
        older.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """To the disk, a file's content or a directory's names."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
