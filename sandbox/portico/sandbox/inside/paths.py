"""Resolves paths of file calls. They stay below the sandbox's directories, whatever links they contain."""

import errno
import os
import stat
from typing import Any, Final

from . import linux
from .calls import Failure

roots: list[str] = ["/workspace", "/tmp"]  # noqa: S108  mounts are appended at the start
HOME: Final = "/home/user"  # an alias of the workspace, which programs for other services expect
OWN: Final = len(roots)  # number of the roots that every sandbox has
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def shown() -> dict[str, Any]:
    """Returns the inodes of the mounts, and the kernel's boot id."""
    states = [os.stat(root) for root in roots[OWN:]]
    return {"boot": linux.boot_id(), "mounts": [[state.st_dev, state.st_ino] for state in states]}


def split(path: str) -> tuple[str, str]:
    """Splits a path into its root and the rest. Raises Failure("invalid_path") for a path below no root."""
    if not isinstance(path, str) or "\0" in path:
        raise Failure("invalid_path", "a path must be text without NUL")
    if not path.startswith("/"):
        return roots[0], path or "."
    if path == HOME or path.startswith(f"{HOME}/"):
        path = roots[0] + path[len(HOME) :]
    for root in roots:
        if path == root or path.startswith(root + "/"):
            return root, path[len(root) :].lstrip("/") or "."
    raise Failure("invalid_path", f"{path}: not below any of {', '.join(roots)}")


def open_beneath(path: str, flags: int, mode: int = 0o644) -> int:
    """Opens a path that stays below its root, links included. Raises OSError, with EXDEV for a path that
    leads outside.
    """
    root, rest = split(path)
    base = os.open(root, _DIRECTORY)
    try:
        return _open(base, rest, flags, mode, linux.RESOLVE_BENEATH | linux.RESOLVE_NO_MAGICLINKS)
    finally:
        os.close(base)


def open_below(base: int, rest: str, flags: int, mode: int = 0o644) -> int:
    """Opens a path below an open directory without following links. Raises OSError, with EXDEV for a path
    that leads outside, ELOOP for a link."""
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
    """Opens a path step by step without following links, on kernels without openat2."""
    parts = [part for part in rest.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise OSError(errno.EXDEV, "..")
    last = parts.pop() if parts and not flags & os.O_DIRECTORY else "."
    current = os.dup(base)
    try:
        for part in parts:
            # Checked before it is entered: old releases of gVisor follow a link that is opened as a
            # directory.
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
    """Returns the open parent directory of a path, and the last component."""
    split(path)
    parent, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", "..") or path.rstrip("/") in roots:
        raise Failure("invalid_path", f"{path}: names no entry")
    if path.startswith("/") and not parent:
        raise Failure("invalid_path", f"{path}: outside the sandbox's directories")
    return open_beneath(parent or ".", _DIRECTORY), name


def open_directory(path: str) -> int:
    return open_beneath(path, _DIRECTORY)


def open_file(path: str, flags: int) -> int:
    """Opens a regular file only: opening a pipe could block, and a device could have side effects."""
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
            pass  # open_directory fails if it is not a directory
        finally:
            os.close(parent)
        done = f"{done}/{part}"
