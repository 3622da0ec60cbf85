"""Translates SQLite's errors into StoreUnavailable, in plain words and without file paths."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from portico.core.errors import StoreFull, StoreUnavailable

_WORDS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_PERM: "no permission to access the database",
    sqlite3.SQLITE_AUTH: "no permission to access the database",
    sqlite3.SQLITE_BUSY: "the database is locked by another process",
    sqlite3.SQLITE_LOCKED: "the database is locked by another process",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write",
    sqlite3.SQLITE_CANTOPEN: "the database can't be opened",
    sqlite3.SQLITE_NOTADB: "the file is not a database",
    sqlite3.SQLITE_CORRUPT: "the database is damaged; run `portico doctor` for details",
}
# Errors caused by this program, not by the file or the disk.
_OURS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.NotSupportedError)


def to_store_unavailable(error: sqlite3.Error) -> StoreUnavailable:
    """Return the error to raise in place of one of SQLite's."""
    # The low byte is the primary code; the rest only refines it.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    full = code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
    code = sqlite3.SQLITE_FULL if full else code & 0xFF
    return (StoreFull if full else StoreUnavailable)(_WORDS.get(code, "the database refused the operation"))


def find_failure(error: BaseException) -> StoreUnavailable | None:
    """Translate an exception of the driver or SQLAlchemy; None if it is not about the database's state."""
    if isinstance(error, StoreUnavailable):
        return error
    if isinstance(error, NoConnection):
        return StoreUnavailable("the database is too busy; try again")
    cause = error.orig if isinstance(error, DBAPIError) else error
    return (
        to_store_unavailable(cause)
        if isinstance(cause, sqlite3.DatabaseError) and not isinstance(cause, _OURS)
        else None
    )


@contextmanager
def translate_sqlite_errors() -> Iterator[None]:
    """Raise StoreUnavailable in place of the driver's and SQLAlchemy's exceptions about the database."""
    try:
        yield
    except StoreUnavailable:
        raise
    except Exception as error:
        failure = find_failure(error)
        if failure is None:
            raise
        raise failure from error
