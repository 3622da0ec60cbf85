"""Copies of a database before its migrations. A migration can only be undone by restoring such a copy."""

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

MAX_COPIES = 2  # how many copies to keep
SPARE_BYTES = 16 * 1024 * 1024  # free space left for the migration itself
_PARTIAL = ".partial"


def copy_before_migration(connection: sqlite3.Connection, database: Path, revision: str) -> Path:
    """Copy the whole database, including its write-ahead log; only its owner can access the copy.

    The copy is beside the database and named after the revision. It replaces an earlier copy for the same
    revision. Of the other copies only the newest are kept. Blocks.

    Args:
        connection: A connection to the database.
        database: The database's path.
        revision: The revision that the database is migrated to.

    Returns:
        The path of the copy.

    Raises:
        OSError: The copy can't be written.
        StoreUnavailable: The disk has too little free space.
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
    log.warning("the database is migrated to revision %s; it was copied to %s before", revision, copy)
    return copy


def list_copies(database: Path) -> list[Path]:
    """Return the copies of a database, newest first."""
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
            f"the copy of the database before its migration needs {needed // 2**20 + 1} MiB, and "
            f"{free // 2**20} MiB of the disk are free; free disk space, or turn the copy off with "
            "--no-migration-copy (PORTICO_CORE_MIGRATION_COPY=false)"
        )


def _drop_older(database: Path, newest: Path) -> None:
    for older in [path for path in list_copies(database) if path != newest][MAX_COPIES - 1 :]:
        log.info("removing the older copy %s", older)
        older.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Write a file's content or a directory's entries to the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
