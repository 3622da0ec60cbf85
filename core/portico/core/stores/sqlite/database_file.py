"""How a connection to a SQLite file is set up, whoever uses it."""

import os
import sqlite3
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BUSY_SECONDS = 1.0  # for another process that writes; whoever is refused tells its caller, or tries again
INCREMENTAL = "PRAGMA auto_vacuum = INCREMENTAL"
KEPT_LOG_BYTES = 8 * 1024 * 1024  # a write-ahead log that was longer is cut to this when it starts anew


OWN_DIRECTORY = ".portico"  # what `portico run` makes and nobody else; others may hold other things


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A database file and how carefully it is written."""

    path: Path
    synchronous: str = "normal"  # normal: safe against a crash of the process; full: against loss of power
    busy_seconds: float = BUSY_SECONDS

    def make(self) -> None:
        """Makes the file and its directory where they are not there, for their owner alone; SQLite gives the
        files beside it the same mode. One that everybody may read has rights that nobody chose, as older
        releases left it: it becomes its owner's alone, and so does a directory of ours. Raises OSError.
        """
        path = Path(os.path.realpath(self.path))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            with suppress(FileNotFoundError, PermissionError):
                _close(path.with_name(name))
        if path.parent.name == OWN_DIRECTORY:
            with suppress(PermissionError):
                _close(path.parent)

    def connect(self) -> sqlite3.Connection:
        """A connection that any one thread at a time may use, without implicit transactions."""
        connection = sqlite3.connect(
            self.path,
            timeout=self.busy_seconds,
            isolation_level=None,
            check_same_thread=False,
            # A cached statement keeps what was bound to it, up to thousands of rows.
            cached_statements=32,
        )
        try:
            self.set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def set_up(self, connection: sqlite3.Connection) -> None:
        """What every connection to the file needs."""
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        if not pages:
            # Freed pages of a new file can be given back. Of any other this would be a write.
            connection.execute(INCREMENTAL).close()
        connection.execute("PRAGMA journal_mode = WAL").close()
        connection.execute(f"PRAGMA journal_size_limit = {KEPT_LOG_BYTES}").close()
        connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        # The checkpointer does it in its own thread; a commit must never pay for it.
        connection.execute("PRAGMA wal_autocheckpoint = 0").close()
        connection.execute("PRAGMA cache_size = -16000")  # KiB
        # What is deleted is overwritten; many builds of SQLite do so anyway.
        connection.execute("PRAGMA secure_delete = ON").close()


def _close(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IRWXO:
        path.chmod(mode & stat.S_IRWXU)
