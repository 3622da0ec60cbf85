"""Mounts in which the sandbox's user is the directory's owner, by the kernel's id-mapped mounts.

They are made here, by root, from descriptors of directories, so that no path is looked up twice; a sandbox
gets them ready to be put in their places.
"""

import ctypes
import os
import struct
from typing import Final

from portico.sandbox import errors
from portico.sandbox.spec import Mount

# The same numbers on every architecture.
_OPEN_TREE: Final = 428
_MOUNT_SETATTR: Final = 442
_OPENAT2: Final = 437
_CLONE: Final = 0x1
_EMPTY_PATH: Final = 0x1000
_RECURSIVE: Final = 0x8000
_READ_ONLY, _NO_SUID, _NO_DEVICES, _ID_MAP = 0x1, 0x2, 0x4, 0x100000
_NO_SYMLINKS: Final = 0x4

_libc = ctypes.CDLL(None, use_errno=True)


def open_source(mount: Mount) -> int:
    """A descriptor of the directory, whose path may contain no links. Raises BackendUnavailable."""
    how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, _NO_SYMLINKS)
    path = os.fsencode(os.path.realpath(mount.source))
    return _call(mount, _OPENAT2, -100, path, how, len(how))


def owner(mount: Mount, source: int) -> tuple[int, int]:
    """The user and group that the sandbox is to be there. Raises BackendUnavailable."""
    state = os.fstat(source)
    if os.geteuid() != 0:
        raise errors.BackendUnavailable(f"mount {mount.source} as its owner: only root can do that")
    if 0 in (state.st_uid, state.st_gid):
        raise errors.BackendUnavailable(
            f"mount {mount.source} as its owner: root owns it, and nobody may be root"
        )
    return state.st_uid, state.st_gid


def mapped(mount: Mount, source: int, namespace: int) -> int:
    """A descriptor of the mount with the ids of a user namespace. Raises BackendUnavailable where the kernel
    or the file system cannot."""
    tree = _call(mount, _OPEN_TREE, source, b"", _CLONE | _EMPTY_PATH | _RECURSIVE | os.O_CLOEXEC)
    try:
        flags = _ID_MAP | _NO_SUID | _NO_DEVICES | (0 if mount.writable else _READ_ONLY)
        attributes = struct.pack("QQQQ", flags, 0, 0, namespace)
        _call(mount, _MOUNT_SETATTR, tree, b"", _EMPTY_PATH | _RECURSIVE, attributes, len(attributes))
    except BaseException:
        os.close(tree)
        raise
    return tree


def _call(mount: Mount, *arguments: object) -> int:
    result: int = _libc.syscall(*arguments)
    if result < 0:
        reason = os.strerror(ctypes.get_errno())
        raise errors.BackendUnavailable(f"mount {mount.source} as its owner: {reason}")
    return result
