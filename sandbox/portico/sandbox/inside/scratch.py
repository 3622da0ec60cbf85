"""The file systems a sandbox can write to: one behind several names, or one for each name."""

import os
from typing import Final

PLACES: Final = ("/workspace", "/tmp", "/dev/shm")  # noqa: S108


def states() -> list[os.statvfs_result]:
    """Of each file system, once."""
    return list({os.stat(path).st_dev: os.statvfs(path) for path in PLACES}.values())


def lacks_inodes() -> bool:
    """Whether one has room left but can hold no more files."""
    return any(state.f_files and state.f_favail == 0 and state.f_bavail for state in states())
