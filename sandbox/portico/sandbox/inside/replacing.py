"""Replaces the content of a file: writes a temporary file beside it and renames it, so that a reader sees
either the old or the new content.
"""

import os
import stat
from contextlib import suppress

from . import paths


def unused_name(path: str) -> str:
    """Returns an unused name for a temporary file beside the file at the path."""
    name = path.rstrip("/").rpartition("/")[2]
    return os.fsdecode(b".%b.%b" % (os.fsencode(name)[:200], os.urandom(6).hex().encode()))


def create(parent: int, name: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o644, dir_fd=parent)


def exists(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def finish(fd: int, temporary: str, parent: int, name: str) -> None:
    """Renames the temporary file to the old one's name, and gives it the old one's mode."""
    if exists(parent, name):
        state = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISREG(state.st_mode):
            os.fchmod(fd, state.st_mode & 0o777)
    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def replace(path: str, content: bytes, temporary: str) -> None:
    """Replaces the content. Raises OSError; then the old content is unchanged."""
    parent, name = paths.open_parent(path)
    try:
        fd = create(parent, temporary)
        try:
            with open(fd, "wb") as file:
                file.write(content)
                file.flush()
                finish(fd, temporary, parent, name)
        except BaseException:
            remove(parent, temporary)
            raise
    finally:
        os.close(parent)


def remove(parent: int, temporary: str) -> None:
    """Removes the temporary file; code inside may have removed it already."""
    with suppress(OSError):
        os.unlink(temporary, dir_fd=parent)


def forget(path: str, temporary: str) -> None:
    """Removes a temporary file that a killed process may have left."""
    with suppress(Exception):  # the directory may be gone, too
        parent = paths.open_parent(path)[0]
        remove(parent, temporary)
        os.close(parent)
