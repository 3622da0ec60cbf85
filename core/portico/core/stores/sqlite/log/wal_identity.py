"""Checks that a write-ahead log belongs to the database beside it.

SQLite does not check this. Beside a restored backup it would use the log of the previous database, and mix
pages of both. So a database has a number (`user_version`) that changes with each WAL checkpoint, first in the
log and then in the database. The file `.base` beside it lists the numbers that the database without its log
may have: that of the last complete WAL checkpoint, and that of the current one.
"""

import logging
import os
import secrets
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

from portico.core.errors import FencedOut, StoreUnavailable
from portico.core.stores.sql.epoch_fence import EpochFence

log = logging.getLogger(__name__)

_AT = slice(60, 64)  # of a database's header: its user_version
_LINE = "{:010d} {:010d}\n"
_BYTES = len(_LINE.format(0, 0))


def check_wal_belongs(database: Path) -> int:
    """Return the number of the database without its log. Blocks.

    Call it while this process has no connection to the database. If the file `.base` is missing or
    invalid, as after an older release, the log is accepted.

    Raises:
        StoreUnavailable: The log belongs to another database.
    """
    found = _number(database)
    wal = database.with_name(f"{database.name}-wal")
    allowed = _allowed(_file(database)) if wal.exists() and wal.stat().st_size else []
    if found is not None and allowed and found not in allowed:
        raise StoreUnavailable(
            f"{wal.name} is not the write-ahead log of {database.name}, which was replaced. If a backup was "
            f"restored, remove {wal.name} and {database.name}-shm: they belong to the previous database"
        )
    return found or 0


class WalIdentity:
    """The number of an open database. The methods block, and may be called in any thread."""

    def __init__(
        self, database: Path, settled: int, connection: sqlite3.Connection, owner: EpochFence
    ) -> None:
        """Create it with `settled`, the number of the database without its log.

        `connection` reads the number with the log, which may differ.
        """
        self._owner = owner
        self._path = _file(database)
        self._lock = threading.Lock()
        found = _number_in(connection)
        self._settled = settled
        self._next = None if found == settled else found
        with suppress(OSError):
            self._say(settled, found)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Set a new number before a WAL checkpoint.

        Raises no error, because a WAL checkpoint without a number of its own is still correct.
        """
        with self._lock:
            if self._next is not None:
                return
            number = secrets.randbelow(2**31 - 1) + 1
            try:
                self._owner.check(connection)
                self._say(self._settled, number)
                connection.execute("BEGIN IMMEDIATE").close()
                try:
                    self._owner.check(connection)
                    connection.execute(f"PRAGMA user_version = {number}").close()
                    connection.execute("COMMIT").close()
                except BaseException:
                    connection.execute("ROLLBACK").close()
                    raise
            except (OSError, sqlite3.Error, FencedOut) as error:
                log.debug("the WAL checkpoint has no number of its own: %s", error)
                return
            self._next = number

    def complete(self) -> None:
        """Record that the whole log is copied into the database."""
        with self._lock:
            if self._next is not None:
                self._settled, self._next = self._next, None
                with suppress(OSError):
                    self._say(self._settled, self._settled, flush=False)

    def _say(self, one: int, other: int, *, flush: bool = True) -> None:
        """Write both numbers to the file. Raises OSError."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(file, _LINE.format(one, other).encode(), 0)
            if flush:
                os.fsync(file)
        finally:
            os.close(file)


def _file(database: Path) -> Path:
    return database.with_name(f"{database.name}.base")


def _allowed(file: Path) -> list[int]:
    """Read the numbers of the file; empty if it is missing or invalid."""
    try:
        with file.open("rb") as opened:
            words = opened.read(_BYTES).split()
        return [int(word) for word in words] if len(words) == 2 else []
    except (OSError, ValueError):
        return []


def _number(database: Path) -> int | None:
    """Read the number of a database without its log; None if it is not a database."""
    try:
        with database.open("rb") as opened:
            header = opened.read(100)
    except OSError:
        return None
    return int.from_bytes(header[_AT], "big") if header.startswith(b"SQLite format 3\0") else None


def _number_in(connection: sqlite3.Connection) -> int:
    ((number,),) = connection.execute("PRAGMA user_version").fetchall()
    return int(number)
