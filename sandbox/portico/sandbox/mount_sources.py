"""Opens the directories and files of this machine that are mounted into sandboxes.

A path may point elsewhere a moment after it was checked: code that may write to a parent directory can
replace a part by a link. So the core opens a path once, when it checks it, and the backend that mounts it
requires the same inode.
"""

import asyncio
import errno
import os
import stat
import threading
from dataclasses import replace
from typing import Final
from weakref import WeakValueDictionary

from portico.sandbox import errors
from portico.sandbox.handle.replies import Reply
from portico.sandbox.inside import linux
from portico.sandbox.spec import Mount

NO_LINKS: Final = linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS
BENEATH: Final = linux.RESOLVE_BENEATH | NO_LINKS
_ABSENT: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.EACCES, errno.ENAMETOOLONG}


class MountSource:
    """An open directory or regular file. There is one object per inode, mount and path while it is
    referenced; the descriptor stays open as long, so that the kernel cannot reuse the inode number."""

    __slots__ = ("__weakref__", "fd", "inode", "is_directory", "owner", "path")

    def __init__(self, fd: int, path: str, state: os.stat_result) -> None:
        self.fd, self.path = fd, path
        self.inode = (state.st_dev, state.st_ino)
        self.is_directory = stat.S_ISDIR(state.st_mode)
        self.owner = (state.st_uid, state.st_gid)

    def __del__(self) -> None:
        os.close(self.fd)


_known: Final[WeakValueDictionary[tuple[object, ...], MountSource]] = WeakValueDictionary()
_knowing: Final = threading.Lock()


def open_source(path: str, beneath: int = -1, rest: str = "") -> MountSource:
    """Opens a path that contains no symbolic links.

    Args:
        path: The absolute path.
        beneath: A directory's descriptor; then `rest` is opened below that directory.
        rest: A path relative to that directory.

    Raises:
        FileNotFoundError: Missing, not accessible, behind a link, or neither a directory nor a regular file.
        OSError: Another failure of the system call.
    """
    try:
        if beneath < 0:
            fd = linux.openat2(-100, path, os.O_PATH, 0, NO_LINKS)
        else:
            fd = linux.openat2(beneath, rest, os.O_PATH, 0, BENEATH)
    except OSError as error:
        if error.errno in _ABSENT:
            raise FileNotFoundError(errno.ENOENT, os.strerror(error.errno or 0), path) from error
        raise
    try:
        state = os.fstat(fd)
        if not (stat.S_ISDIR(state.st_mode) or stat.S_ISREG(state.st_mode)):
            raise FileNotFoundError(errno.ENOENT, "neither a directory nor a regular file", path)
        with _knowing:
            key = (path, _mount_id(fd), state.st_dev, state.st_ino)
            source = _known.get(key)
            if source is None:
                source = _known[key] = MountSource(fd, path, state)
                fd = -1
        return source
    finally:
        if fd >= 0:
            os.close(fd)


def _mount_id(fd: int) -> str:
    """Returns the mount id. One directory may be visible in two mounts, with different mounts below it."""
    with open(f"/proc/self/fdinfo/{fd}") as lines:
        return next(line for line in lines if line.startswith("mnt_id:"))


async def opened(mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """Returns the mounts with their sources open; sources that are open already stay. Links in the other
    paths are resolved, once. Raises BackendUnavailable for a missing source."""
    if all(mount.opened is not None for mount in mounts):
        return mounts
    return tuple([mount if mount.opened else await asyncio.to_thread(_opened, mount) for mount in mounts])


def _opened(mount: Mount) -> Mount:
    try:
        return replace(mount, opened=open_source(os.path.realpath(mount.source)))
    except OSError as error:
        raise errors.BackendUnavailable(f"mount {mount.source}: {error.strerror}") from error


def closed(mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """Returns the mounts without their open sources, for a sandbox that no longer needs them."""
    return tuple(replace(mount, opened=None) for mount in mounts)


def confirm(mounts: tuple[Mount, ...], told: Reply) -> None:
    """Checks the mounts that a supervisor reports. Raises BackendUnavailable unless each is the inode that
    was opened, on this machine's kernel."""
    if not mounts:
        return
    here = linux.boot_id()
    if not here or told.text("boot", default="") != here:
        raise errors.BackendUnavailable("mounts: the sandbox is on another machine or kernel")
    if told.pairs("mounts") != [mount.opened and mount.opened.inode for mount in mounts]:
        raise errors.BackendUnavailable("mounts: a directory was replaced by another one meanwhile")
