"""The user id of code inside in a mount, and mounts in which it is the directory's owner, by the kernel's
id-mapped mounts.

They are made here, by root, from descriptors of directories, so that no path is looked up twice; a sandbox
gets them ready to be put in their places.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from typing import Final

from portico.sandbox import errors
from portico.sandbox.mount_sources import Source
from portico.sandbox.spec import Mount

# The same numbers on every architecture.
_OPEN_TREE: Final = 428
_MOUNT_SETATTR: Final = 442
_CLONE: Final = 0x1
_EMPTY_PATH: Final = 0x1000
_RECURSIVE: Final = 0x8000
_READ_ONLY, _NO_SUID, _NO_DEVICES, _ID_MAP = 0x1, 0x2, 0x4, 0x100000

_libc = ctypes.CDLL(None, use_errno=True)


def check(mounts: Iterable[Mount]) -> None:
    """Refuses mounts in which code inside would be somebody else than was asked for.

    Without root's rights a sandbox has the user id of whoever makes it, and in a mount all that this user may
    do. So the mount has to be one that is shown as its owner, and that owner has to be the user. Raises
    Unsupported, BackendUnavailable.
    """
    for mount in mounts:
        assert mount.opened is not None
        user = os.geteuid()
        if mount.as_owner and user == 0 and 0 in mount.opened.owner:
            raise errors.BackendUnavailable(
                f"mount {mount.source} as its owner: root owns it, and nobody may be root"
            )
        if mount.as_owner and user not in (0, mount.opened.owner[0]):
            raise errors.BackendUnavailable(
                f"mount {mount.source} as its owner: it belongs to another user, and only root can do that"
            )
        if not mount.as_owner and user != 0:
            raise errors.Unsupported(
                f"mount {mount.source}: without root's rights code inside is the user who runs this process, "
                "and may do there what that user may; allow it by showing the mount as its owner"
            )


def is_mapped(mount: Mount) -> bool:
    """Whether ids have to be mapped in it; without root's rights the owner's id is the sandbox's anyway."""
    return mount.as_owner and os.geteuid() == 0


def mapped(mount: Mount, source: Source, namespace: int) -> int:
    """A descriptor of the mount with the ids of a user namespace. Raises BackendUnavailable where the kernel
    or the file system cannot."""
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
