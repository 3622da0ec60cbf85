"""Directories of the host that sandboxes may mount, as the operator allows.

Each directory is opened once, when the core starts. A mount source is opened below that descriptor, without
following links, and its path is never looked up again.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from portico.core.errors import InvalidArgument
from portico.core.sandboxes.sandbox_errors import translate_sandbox_errors
from portico.sandbox import errors
from portico.sandbox.mount_sources import MountSource, open_source
from portico.sandbox.spec import Mount

_MODES: Final = ("", "rw", "own")
_NOTHING: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class _OpenDirectory:
    names: tuple[str, ...]  # as the operator wrote it, and with links resolved
    source: MountSource
    mode: str


class AllowedMounts:
    """The operator's list: `/data` read-only, `/data:rw` writable, `/data:own` with its owner's rights."""

    def __init__(self, entries: tuple[str, ...], private: Mapping[str, str] = _NOTHING) -> None:
        """Open all directories.

        Args:
            entries: The operator's entries.
            private: Names and paths of private files, which no directory may contain.

        Raises:
            ValueError: An entry is malformed, its directory is missing, or it contains private files.
        """
        self._folders = [_folder(entry) for entry in entries]
        for folder in self._folders:
            for what, path in private.items():
                if f"{os.path.realpath(path)}/".startswith(f"{folder.source.path.rstrip('/')}/"):
                    raise ValueError(
                        f"sandbox mounts: {folder.names[0]} contains {what}, {path}; move that elsewhere"
                    )

    def open_mounts(self, mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
        """Return the mounts with opened sources. Raises InvalidArgument for a source that is not allowed."""
        return tuple(self._opened(mount, index) for index, mount in enumerate(mounts))

    def _opened(self, mount: Mount, index: int) -> Mount:
        for folder in self._folders:
            if mount.writable and folder.mode not in ("rw", "own"):
                continue
            for name in folder.names:
                if mount.source != name and not mount.source.startswith(f"{name.rstrip('/')}/"):
                    continue
                rest = os.path.normpath(mount.source[len(name) :].strip("/") or ".")
                path = os.path.normpath(f"{folder.source.path}/{rest}")
                try:
                    source = open_source(path, folder.source.fd, rest)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    with translate_sandbox_errors():
                        raise errors.BackendUnavailable(f"mount {index}: {error.strerror}") from error
                return replace(mount, source=path, as_owner=folder.mode == "own", opened=source)
        raise InvalidArgument(
            f"spec.mounts[{index}].source",
            "is not an allowed directory, does not exist, or has a symbolic link in its path",
        )


def _folder(entry: str) -> _OpenDirectory:
    path, _, mode = entry.partition(":")
    if not path.startswith("/") or mode not in _MODES:
        raise ValueError(f"sandbox mounts: expected /directory[:rw] or /directory:own, not {entry!r}")
    plain = os.path.realpath(path)
    try:
        return _OpenDirectory(tuple(dict.fromkeys((os.path.normpath(path), plain))), open_source(plain), mode)
    except OSError as error:
        raise ValueError(f"sandbox mounts: {path}: {error.strerror}") from error
