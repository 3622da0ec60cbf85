"""One core at a time on a database: a lock that the kernel releases however the process dies."""

import fcntl
import os
from pathlib import Path

from portico.core.errors import StoreUnavailable


class DatabaseLock:
    """Held from `acquire` until `release`, on a file beside the database."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.lock")
        self._file: int | None = None

    def acquire(self) -> None:
        """Raises StoreUnavailable when another process holds it."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise StoreUnavailable("another core uses this database; give each core its own") from None
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
