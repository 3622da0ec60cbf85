"""One core at a time on a database: a lock that the kernel releases however the process dies.

The file that is locked has the id of the machine's boot in which a core last opened the database.
"""

import fcntl
import os
from pathlib import Path

from portico.core.errors import StoreUnavailable

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def opened_in_this_boot(database: Path) -> bool:
    """Whether the machine runs since a core last opened the database. False where nobody can tell."""
    try:
        return bool(boot := _boot()) and _path(database).read_text() == boot
    except (OSError, UnicodeDecodeError):
        return False


class DatabaseLock:
    """Held from `acquire` until `release`, on a file beside the database."""

    def __init__(self, database: Path) -> None:
        self._path = _path(database)
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

    def sign(self) -> None:
        """The database is opened in this boot."""
        self._path.write_text(_boot())

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _path(database: Path) -> Path:
    return database.with_name(f"{database.name}.lock")


def _boot() -> str:
    """Empty on a system that has no such id."""
    try:
        return _BOOT.read_text()
    except OSError:
        return ""
