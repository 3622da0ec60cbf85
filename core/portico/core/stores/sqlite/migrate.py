"""Brings a database file to the newest schema."""

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from portico.core.errors import StoreUnavailable
from portico.core.stores.sqlite.database_file import SqliteFile
from portico.core.stores.sqlite.migration_copies import copy_before
from portico.core.stores.sqlite.sqlite_errors import plain_failures

START_SECONDS = 10.0  # for another process that migrates, or writes: at a start nobody else waits
SCRIPTS = Path(__file__).parents[1] / "migrations"


def migrate(file: SqliteFile, *, copy: bool = False) -> None:
    """With `copy`, an older database is copied before. Blocks. Raises StoreUnavailable, also for a file that
    is not a database of this or an older release."""
    file = replace(file, busy_seconds=START_SECONDS)
    with plain_failures(), closing(file.connect()) as connection:
        revision = revision_of(connection)
        if revision == newest():
            return
        if copy and revision in revisions():
            try:
                copy_before(connection, Path(os.path.realpath(file.path)), newest())
            except OSError as error:
                raise StoreUnavailable(
                    f"the database can't be copied before its migration: {error.strerror}"
                ) from error
    # What does the work takes long to import, and most starts have none.
    from portico.core.stores.sqlite.schema_upgrade import upgrade

    upgrade(file)


def newest() -> str:
    """The newest revision."""
    return max(revisions())


def revisions() -> set[str]:
    """Those that there are scripts for; each is in its script's name."""
    return {script.name[1:5] for script in (SCRIPTS / "versions").glob("v*.py")}


def revision_of(connection: sqlite3.Connection) -> str:
    """Empty for a database that has none, or none of ours."""
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return ""
        raise
    return "" if row is None else str(row[0])
