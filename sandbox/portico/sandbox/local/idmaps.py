"""Decides which user the code inside is in a mount, and makes mounts in which it is the source's owner, by
the kernel's id-mapped mounts.

Root makes them here from open descriptors, so that no path is resolved twice; the sandbox attaches them.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from typing import Final

from portico.sandbox import errors
from portico.sandbox.spec import Mount, OpenedSource

# System call numbers; the same on every architecture.
_OPEN_TREE: Final = 428
_MOUNT_SETATTR: Final = 442
_CLONE: Final = 0x1
_EMPTY_PATH: Final = 0x1000
_RECURSIVE: Final = 0x8000
_READ_ONLY, _NO_SUID, _NO_DEVICES, _ID_MAP = 0x1, 0x2, 0x4, 0x100000

_libc = ctypes.CDLL(None, use_errno=True)


def check(mounts: Iterable[Mount]) -> None:
    """Refuses mounts in which code inside would have another user than requested.

    Without root's rights a sandbox runs under the user id of this process, and has that user's rights in a
    mount. So the mount must be requested `as_owner`, and this user must own it. Raises Unsupported,
    BackendUnavailable.
    """
    for mount in mounts:
        assert mount.opened is not None
        user = os.geteuid()
        if mount.as_owner and user == 0 and 0 in mount.opened.owner:
            raise errors.BackendUnavailable(
                f"mount {mount.source} as its owner: root owns it, and code inside may not be root"
            )
        if mount.as_owner and user not in (0, mount.opened.owner[0]):
            raise errors.BackendUnavailable(
                f"mount {mount.source} as its owner: another user owns it, and only root can map the owner"
            )
        if not mount.as_owner and user != 0:
            raise errors.Unsupported(
                f"mount {mount.source}: without root's rights code inside is the user who runs this process, "
                "with that user's rights; allow it by mounting it as its owner"
            )


def is_mapped(mount: Mount) -> bool:
    """Whether the mount needs mapped ids; without root's rights the owner's id is the sandbox's anyway."""
    return mount.as_owner and os.geteuid() == 0


def mapped(mount: Mount, source: OpenedSource, namespace: int) -> int:
    """Returns a descriptor of the mount with the id mapping of a user namespace. Raises BackendUnavailable if
    the kernel or the file system does not support that."""
    tree = _call(mount, _OPEN_TREE, source.fd, b"", _CLONE | _EMPTY_PATH | _RECURSIVE | os.O_CLOEXEC)
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
