"""The writable file systems of a sandbox: one that has several names, or one for each name."""

import os
from typing import Final

PLACES: Final = ("/workspace", "/tmp", "/dev/shm")  # noqa: S108


def states() -> list[os.statvfs_result]:
    """Returns the state of each file system once."""
    return list({os.stat(path).st_dev: os.statvfs(path) for path in PLACES}.values())


def lacks_inodes() -> bool:
    """Whether a file system has free space but no free inodes."""
    return any(state.f_files and state.f_favail == 0 and state.f_bavail for state in states())
