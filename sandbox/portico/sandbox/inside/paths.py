"""Paths of the file API: they stay below the directories that belong to the sandbox, whatever links are in
the way.
"""

import errno
import os
import stat
from typing import Any, Final

from . import linux
from .calls import Failure

roots: list[str] = ["/workspace", "/tmp"]  # noqa: S108  mounts join at the start
HOME: Final = "/home/user"  # another name of the workspace, that other services' programs expect
OWN: Final = len(roots)  # that every sandbox has
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def shown() -> dict[str, Any]:
    """Which inodes the mounts are, and of which kernel."""
    states = [os.stat(root) for root in roots[OWN:]]
    return {"boot": linux.boot_id(), "mounts": [[state.st_dev, state.st_ino] for state in states]}


def split(path: str) -> tuple[str, str]:
    """The root a path is below, and the rest. Raises Failure("invalid_path") for one below none."""
    if not isinstance(path, str) or "\0" in path:
        raise Failure("invalid_path", "a path is text without NUL")
    if not path.startswith("/"):
        return roots[0], path or "."
    if path == HOME or path.startswith(f"{HOME}/"):
        path = roots[0] + path[len(HOME) :]
    for root in roots:
        if path == root or path.startswith(root + "/"):
            return root, path[len(root) :].lstrip("/") or "."
    raise Failure("invalid_path", f"{path}: not below any of {', '.join(roots)}")


def open_beneath(path: str, flags: int, mode: int = 0o644) -> int:
    """Opens a path without ever leaving its root, links included. Raises OSError, EXDEV for a path that
    leads out.
    """
    root, rest = split(path)
    base = os.open(root, _DIRECTORY)
    try:
        return _open(base, rest, flags, mode, linux.RESOLVE_BENEATH | linux.RESOLVE_NO_MAGICLINKS)
    finally:
        os.close(base)


def open_below(base: int, rest: str, flags: int, mode: int = 0o644) -> int:
    """Opens a path below an open directory and follows no link. Raises OSError, EXDEV for a path that leads
    out, ELOOP for a link."""
    resolve = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS
    return _open(base, rest, flags, mode, resolve)


def _open(base: int, rest: str, flags: int, mode: int, resolve: int) -> int:
    try:
        return linux.openat2(base, rest, flags, mode, resolve)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return _walk(base, rest, flags, mode)


def _walk(base: int, rest: str, flags: int, mode: int) -> int:
    """For kernels without openat2: step by step, following no link at all."""
    parts = [part for part in rest.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise OSError(errno.EXDEV, "..")
    last = parts.pop() if parts and not flags & os.O_DIRECTORY else "."
    current = os.dup(base)
    try:
        for part in parts:
            # Looked at before it is entered: old releases of gVisor follow a link opened as a directory.
            following = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
            os.close(current)
            current = following
            kind = os.fstat(current).st_mode
            if not stat.S_ISDIR(kind):
                number = errno.ELOOP if stat.S_ISLNK(kind) else errno.ENOTDIR
                raise OSError(number, os.strerror(number))
        return os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=current)
    finally:
        os.close(current)


def open_parent(path: str) -> tuple[int, str]:
    """The open directory a path's last component is in, and that component."""
    split(path)
    parent, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", "..") or path.rstrip("/") in roots:
        raise Failure("invalid_path", f"{path}: names no entry")
    if path.startswith("/") and not parent:
        raise Failure("invalid_path", path)
    return open_beneath(parent or ".", _DIRECTORY), name


def open_directory(path: str) -> int:
    return open_beneath(path, _DIRECTORY)


def open_file(path: str, flags: int) -> int:
    """Opens a regular file and nothing else: a pipe or a device would block or do things."""
    fd = open_beneath(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    kind = os.fstat(fd).st_mode
    if not stat.S_ISREG(kind):
        os.close(fd)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        raise Failure("invalid_path", f"{path}: not a regular file")
    return fd


def make_parents(path: str) -> None:
    root, rest = split(path)
    done = root
    for part in rest.split("/")[:-1]:
        if part in ("", "."):
            continue
        parent = open_directory(done)
        try:
            os.mkdir(part, dir_fd=parent)
        except FileExistsError:
            pass  # open_directory says so if it is no directory
        finally:
            os.close(parent)
        done = f"{done}/{part}"
