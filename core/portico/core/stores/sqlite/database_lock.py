"""The lock that lets one core at a time use a database; the kernel releases it when the process ends.

The locked file contains the id of the machine's boot in which a core last opened the database.
"""

import fcntl
import os
from pathlib import Path

from portico.core.errors import StoreUnavailable

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def was_opened_since_boot(database: Path) -> bool:
    """Return whether a core has opened the database since the last boot; False if that is unknown."""
    try:
        return bool(boot := _boot()) and _path(database).read_text() == boot
    except (OSError, UnicodeDecodeError):
        return False


class DatabaseLock:
    """The lock, on a file beside the database. Held from `acquire` until `release`."""

    def __init__(self, database: Path) -> None:
        self._path = _path(database)
        self._file: int | None = None

    def acquire(self) -> None:
        """Acquire the lock. Raises StoreUnavailable when another process holds it."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise StoreUnavailable("another core uses this database; give each core its own") from None
        self._file = file

    def record_boot(self) -> None:
        """Record that the database is opened in the current boot."""
        self._path.write_text(_boot())

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _path(database: Path) -> Path:
    return database.with_name(f"{database.name}.lock")


def _boot() -> str:
    """Return the id of the current boot; empty on a system without one."""
    try:
        return _BOOT.read_text()
    except OSError:
        return ""
