"""New content for a file: it is written beside the old one and renamed, so that a reader sees one or the
other.
"""

import os
import stat
from contextlib import suppress

from . import paths


def unused_name(path: str) -> str:
    """For a file beside the one at the path."""
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
    """Puts the new file in the place of the old one, whose mode it gets."""
    if exists(parent, name):
        state = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISREG(state.st_mode):
            os.fchmod(fd, state.st_mode & 0o777)
    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def replace(path: str, content: bytes, temporary: str) -> None:
    """Raises OSError, and then the old content is still there."""
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
    """Code inside may have done it already."""
    with suppress(OSError):
        os.unlink(temporary, dir_fd=parent)


def forget(path: str, temporary: str) -> None:
    """Removes what a killed process may have left."""
    with suppress(Exception):  # the directory may be gone, too
        parent = paths.open_parent(path)[0]
        remove(parent, temporary)
        os.close(parent)
