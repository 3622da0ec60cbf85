"""Bind mounts of opened directories below a path that only root can change. They are for gVisor, which
accepts only paths and numbers inodes in its own way, so that the supervisor cannot report the inode of a
mount.
"""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from portico.sandbox import errors
from portico.sandbox.inside import linux
from portico.sandbox.local.process_owner import ProcessOwner
from portico.sandbox.spec import OpenedSource

_FOLDER: Final = "portico-binds-"


class Binds:
    """The bind mounts of one backend. They are made in this process's mount namespace, which must also be the
    engine's; otherwise the engine does not find them and reports that."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    def add(self, source: OpenedSource) -> str:
        """Mounts a source and returns the path. Raises BackendUnavailable where that is not allowed."""
        try:
            if self._folder is None:
                prefix = f"{_FOLDER}{ProcessOwner.current().name}-"
                self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_place()))
            target = self._folder / secrets.token_hex(8)
            target.mkdir() if source.is_directory else target.touch()
            linux.mount(f"/proc/self/fd/{source.fd}", str(target), flags=linux.MS_BIND | linux.MS_REC)
        except OSError as error:
            raise errors.BackendUnavailable(f"mount {source.path}: it cannot be bound: {error}") from error
        return str(target)

    def remove(self, path: str) -> None:
        """Unmounts a path that `add` returned."""
        _remove(Path(path))

    def close(self) -> None:
        """Removes all bind mounts of the backend."""
        if self._folder is not None:
            _clear(self._folder)
            self._folder = None


def sweep() -> None:
    """Removes bind mounts of owners that were killed."""
    for folder in _place().glob(f"{_FOLDER}*"):
        owner = ProcessOwner.parse(folder.name.removeprefix(_FOLDER).rpartition("-")[0])
        if owner is not None and owner.ended() and folder.stat().st_uid == os.geteuid():
            _clear(folder)


def _place() -> Path:
    return Path("/run") if os.access("/run", os.W_OK) else Path(tempfile.gettempdir())


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        _remove(path)
    with suppress(OSError):
        folder.rmdir()


def _remove(path: Path) -> None:
    """Unmounts a path and removes the empty mount point; never the content of a mount."""
    with suppress(OSError):  # it is not a mount
        linux.umount(str(path), linux.MNT_DETACH)
    with suppress(OSError):
        path.rmdir() if path.is_dir() else path.unlink()
