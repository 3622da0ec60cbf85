"""A SQLite file: its creation, its permissions, and the setup of every connection to it."""

import os
import sqlite3
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# How long SQLite waits while another process writes; then the call fails, and its caller may retry.
BUSY_SECONDS = 1.0
INCREMENTAL = "PRAGMA auto_vacuum = INCREMENTAL"
KEPT_LOG_BYTES = 8 * 1024 * 1024  # a longer write-ahead log is cut to this size when it starts over


# The directory that `portico run` creates. Others may hold files of other programs.
OWN_DIRECTORY = ".portico"


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A database file and its options."""

    path: Path
    synchronous: str = "normal"  # normal: safe against a crash of the process; full: against loss of power
    busy_seconds: float = BUSY_SECONDS

    def make(self) -> None:
        """Create the file and its directory unless they exist, accessible only to their owner.

        SQLite gives the files beside it the same mode. Files that all users can access, as older
        releases created them by default, are restricted to their owner, and so is the directory if it
        is OWN_DIRECTORY.

        Raises:
            OSError: The file or directory can't be created.
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
        """Open a connection without implicit transactions. Any thread may use it, one at a time."""
        connection = sqlite3.connect(
            self.path,
            timeout=self.busy_seconds,
            isolation_level=None,
            check_same_thread=False,
            # A cached statement keeps its bound values in memory, up to thousands of rows.
            cached_statements=32,
        )
        try:
            self.set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def set_up(self, connection: sqlite3.Connection) -> None:
        """Set the pragmas that every connection to the file needs."""
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        if not pages:
            # Lets freed pages of a new file be returned to the disk. For any other file this would write.
            connection.execute(INCREMENTAL).close()
        connection.execute("PRAGMA journal_mode = WAL").close()
        connection.execute(f"PRAGMA journal_size_limit = {KEPT_LOG_BYTES}").close()
        connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        # WAL checkpoints run in a thread of their own; no commit must take the time for one.
        connection.execute("PRAGMA wal_autocheckpoint = 0").close()
        connection.execute("PRAGMA cache_size = -16000")  # KiB
        # Overwrites deleted content; many builds of SQLite do this by default.
        connection.execute("PRAGMA secure_delete = ON").close()


def _close(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IRWXO:
        path.chmod(mode & stat.S_IRWXU)
