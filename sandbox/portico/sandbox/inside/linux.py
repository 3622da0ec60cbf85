"""The system calls that Python 3.11 does not offer, by ctypes. Each raises OSError with its errno."""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_SECCOMP: Final = 22
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47

_SYS_OPENAT2: Final = 437  # the same numbers on every architecture
_SYS_MOVE_MOUNT: Final = 429
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_BENEATH: Final = 0x08
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}


# Declared once: to convert each argument by a rule of its own takes longer than the system call.
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_libc.mount.argtypes = (*[ctypes.c_char_p] * 3, ctypes.c_ulong, ctypes.c_char_p)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    _check(_libc.setns(fd, flags), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None
    )
    if result < 0:
        _check(result, f"mount {kind or source} on {target}")


def umount(target: str, flags: int = 0) -> None:
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def move_mount(fd: int, target: str) -> None:
    """Puts a mount that is nowhere yet into its place, and lets go of the descriptor."""
    try:
        _check(_libc.syscall(_SYS_MOVE_MOUNT, fd, b"", -100, target.encode(), 4), f"move a mount to {target}")
    finally:
        os.close(fd)


def pivot_root(new: str, old: str) -> None:
    _check(_libc.syscall(_PIVOT_ROOT[os.uname().machine], new.encode(), old.encode()), "pivot_root")


def prctl(option: int, second: int = 0, third: int = 0, fourth: int = 0) -> None:
    if _libc.prctl(option, second, third, fourth, 0) < 0:
        _check(-1, f"prctl {option}")


def adopt_orphans() -> None:
    """What descendants leave behind becomes a child of this process, so that it can be found below it.

    Old releases of gVisor do not know that: there it becomes a child of process 1, and lives until a reset.
    """
    try:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def drop_capabilities() -> None:
    """Empties the bounding, ambient, inheritable, permitted and effective sets, for good."""
    capability, drop = 0, _libc.prctl
    while drop(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    if ctypes.get_errno() != errno.EINVAL:  # which says that this kernel knows no more of them
        _check(-1, f"drop capability {capability}")
    prctl(PR_CAP_AMBIENT, 4)
    header = struct.pack("Ii", 0x20080522, 0)
    _check(_libc.capset(header, bytes(24)), "capset")


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install_filter(program: bytes) -> None:
    """Puts a seccomp filter (an array of struct sock_filter) on this process and all it will start."""
    instructions = _Program(len(program) // 8, program)
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(instructions))


def loopback_up() -> None:
    probe = socket.SocketType(socket.AF_INET, socket.SOCK_DGRAM)  # the bare one, without names for numbers
    fcntl.ioctl(probe.fileno(), 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS, UP|RUNNING
    probe.close()


def write_file(path: str, text: str) -> None:
    """In one call, without the layers of `open`, each of which copies pages in a process just forked."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def openat2(dir_fd: int, path: str, flags: int, mode: int, resolve: int) -> int:
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode if flags & os.O_CREAT else 0, resolve)
    result: int = _libc.syscall(_SYS_OPENAT2, dir_fd, os.fsencode(path), how, len(how))
    return _check(result, path)


def inotify_init() -> int:
    return _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")


def inotify_add(fd: int, path: str, mask: int) -> int:
    return _check(_libc.inotify_add_watch(fd, os.fsencode(path), mask), path)
