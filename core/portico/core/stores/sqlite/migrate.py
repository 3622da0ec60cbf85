"""Migrates a database file to the newest schema."""

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from portico.core.errors import StoreUnavailable
from portico.core.stores.sqlite.database_file import SqliteFile
from portico.core.stores.sqlite.migration_copies import copy_before_migration
from portico.core.stores.sqlite.sqlite_errors import translate_sqlite_errors

# How long to wait for another process that migrates or writes. At a start no caller is kept waiting.
START_SECONDS = 10.0
SCRIPTS = Path(__file__).parents[1] / "migrations"


def migrate(file: SqliteFile, *, copy: bool = False) -> None:
    """Migrate a file to the newest schema. Blocks.

    Args:
        file: The database file.
        copy: Copy a database of an older release before its migration.

    Raises:
        StoreUnavailable: The file can't be used, or is not a database of this or an older release.
    """
    file = replace(file, busy_seconds=START_SECONDS)
    with translate_sqlite_errors(), closing(file.connect()) as connection:
        revision = revision_of(connection)
        if revision == newest():
            return
        if copy and revision in revisions():
            try:
                copy_before_migration(connection, Path(os.path.realpath(file.path)), newest())
            except OSError as error:
                raise StoreUnavailable(
                    f"the database can't be copied before its migration: {error.strerror}"
                ) from error
    # Imported only here because the import is slow and most starts need no migration.
    from portico.core.stores.sqlite.schema_upgrade import upgrade

    upgrade(file, SCRIPTS)


def newest() -> str:
    """Return the newest revision."""
    return max(revisions())


def revisions() -> set[str]:
    """Return the revisions of all migration scripts, from the scripts' names."""
    return {script.name[1:5] for script in (SCRIPTS / "versions").glob("v*.py")}


def revision_of(connection: sqlite3.Connection) -> str:
    """Return a database's revision; empty for a database without one."""
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return ""
        raise
    return "" if row is None else str(row[0])
