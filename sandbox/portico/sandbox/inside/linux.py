"""System calls that Python 3.11 does not offer, by ctypes. Each function raises OSError with its errno."""

import _signal  # type: ignore[import-not-found]  # it has no stub
import ctypes
import errno
import os
import signal
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
_CLONE_PIDFD: Final = 0x00001000
_CLONE_INTO_CGROUP: Final = 0x200000000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2

PROT_READ: Final = 1
PROT_EXEC: Final = 4
_PROT_WRITE: Final = 2
_MAP_PRIVATE_ANONYMOUS: Final = 0x22
_MREMAP_MAYMOVE_FIXED: Final = 3
_MADV_COLLAPSE: Final = 25

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47

# As `signal.signal`, but without conversion between enums and numbers.
on_signal: Final[Callable[[int, Any], Any]] = _signal.signal
IGNORE: Final[int] = _signal.SIG_IGN
DEFAULT: Final[int] = _signal.SIG_DFL

_SYS_OPENAT2: Final = 437  # these numbers are the same on every architecture
_SYS_MOVE_MOUNT: Final = 429
_SYS_CLONE3: Final = 435
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER: Final = 1
_FILTER_WITH_LISTENER: Final = 8
_WAITING_KILLABLE: Final = 32  # SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, from Linux 5.19 on


# Declared once: converting each argument without a declared type takes longer than the system call.
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_libc.mount.argtypes = (*[ctypes.c_char_p] * 3, ctypes.c_ulong, ctypes.c_char_p)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_libc.mmap.restype = _libc.mremap.restype = ctypes.c_ssize_t
_libc.mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = _libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


# Without declared types: they take numbers, bytes and None unchanged, so that all calls run the same code.
_plain = ctypes.CDLL(None, use_errno=True)
_holding = ctypes.PyDLL(None, use_errno=True)  # keeps the GIL during a call
_fork = _holding.fork
Step = tuple[Callable[..., int], tuple[Any, ...]]


def step(name: str, *arguments: Any) -> Step:
    """Returns a step: a call of a C library function to be made later. It fails with a negative result."""
    return getattr(_plain, name), arguments


def follow(steps: Iterable[Step]) -> int:
    """Executes steps and returns the last result. A forked process pays for every page that it writes to
    first, and Python writes to every object that it uses; this loop uses the same few objects again and
    again."""
    result = 0
    for function, arguments in steps:
        result = function(*arguments)
        if result < 0:
            _check(-1, f"{getattr(function, '__name__', function)}{arguments}")
    return result


def pretend(steps: Iterable[Step]) -> int:
    """Iterates over steps like `follow` without executing them, for rehearsals."""
    for _function, _arguments in steps:
        pass
    return -1


def mmap_anonymous(size: int) -> int:
    """Maps new private memory and returns its address."""
    access = PROT_READ | _PROT_WRITE
    return _check(_libc.mmap(None, size, access, _MAP_PRIVATE_ANONYMOUS, -1, 0), "mmap")


def munmap(address: int, size: int) -> None:
    """Unmaps memory; parts that are not mapped are ignored."""
    _check(_libc.munmap(address, size), "munmap")


def mprotect(address: int, size: int, access: int) -> None:
    _check(_libc.mprotect(address, size, access), "mprotect")


def mremap_onto(address: int, size: int, target: int) -> None:
    """Moves memory to a target address and replaces the mapping there."""
    _check(_libc.mremap(address, size, size, _MREMAP_MAYMOVE_FIXED, target), "mremap")


def collapse(address: int, size: int) -> None:
    """Moves memory to huge pages now. Requires Linux 6.1."""
    _check(_libc.madvise(address, size, _MADV_COLLAPSE), "madvise")


def pages_in_memory(address: int, size: int) -> int:
    """Returns how many pages are in memory. Raises OSError where nothing is mapped."""
    told = ctypes.create_string_buffer(size // os.sysconf("SC_PAGE_SIZE"))
    _check(_libc.mincore(address, size, told), "mincore")
    return sum(told.raw)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def setfsuid(uid: int) -> None:
    """Sets the user id for this thread's file accesses. Setting any other id resets it."""
    _libc.setfsuid(uid)  # does not report failures
    if _libc.setfsuid(-1) != uid:
        raise PermissionError(errno.EPERM, f"setfsuid {uid}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def fork(namespaces: int, group: int | None) -> tuple[int, int]:
    """Forks as os.fork, but into new namespaces, and into the version 2 control group whose directory is open
    as `group`. Returns the child's pid and pidfd; in the child 0 and an undefined number.

    It skips what the C library and Python do in a child for threads and random numbers. So it is only for a
    process that has neither, and that is process 1 as its child will be, so that the C library's cached
    process id is right. Children that the child forks with os.fork are ordinary.
    """
    pidfd = ctypes.c_int(-1)
    flags = namespaces | _CLONE_PIDFD | (0 if group is None else _CLONE_INTO_CGROUP)
    arguments = (flags, ctypes.addressof(pidfd), 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, group or 0)
    told = struct.pack("11Q", *arguments)  # struct clone_args
    return _check(_holding.syscall(_SYS_CLONE3, told, len(told)), "clone3"), pidfd.value


def fork_bare() -> int:
    """Forks as os.fork, but without the hooks that modules have registered. In a process with one thread,
    whose child needs none of them, this writes to far fewer pages."""
    return _check(_fork(), "fork")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None
    )
    if result < 0:
        _check(result, f"mount {kind or source} on {target}")


def umount(target: str, flags: int = 0) -> None:
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def move_mount(fd: int, target: str) -> None:
    """Attaches a detached mount at a path, and closes its descriptor."""
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
    """Makes orphaned descendants children of this process, so that they can be found below it.

    Old releases of gVisor do not support that: there orphans become children of process 1, and live until a
    reset.
    """
    try:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def dropping_capabilities() -> list[Step]:
    """Returns steps that empty the bounding, ambient, inheritable, permitted and effective sets for good."""
    last = 0
    while _libc.prctl(PR_CAPBSET_READ, last, 0, 0, 0) >= 0:
        last += 1
    if ctypes.get_errno() != errno.EINVAL:  # EINVAL: the kernel has no further capabilities
        _check(-1, f"ask for capability {last}")
    return [
        *(step("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0) for capability in range(last)),
        step("prctl", PR_CAP_AMBIENT, 4, 0, 0, 0),
        step("capset", struct.pack("Ii", 0x20080522, 0), bytes(24)),
    ]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def installing_filter(program: bytes, *, listening: bool = True) -> Step:
    """Returns a step that installs a seccomp filter (an array of struct sock_filter) for this process and its
    descendants. Its result is the listener: a descriptor that receives the filter's notifications (Linux
    5.5)."""
    number = _SECCOMP[os.uname().machine]
    flags = _FILTER_WITH_LISTENER if listening else 0
    if listening:
        # Without this flag, a signal ends a connect() that waits for its answer with EINTR, which programs
        # regard as a connection in progress. A kernel that supports it reports only the missing program
        # (EFAULT).
        _plain.syscall(number, _SET_MODE_FILTER, flags | _WAITING_KILLABLE, None)
        flags |= _WAITING_KILLABLE if ctypes.get_errno() == errno.EFAULT else 0
    filter_ = ctypes.pointer(_Program(len(program) // 8, program))
    return step("syscall", number, _SET_MODE_FILTER, flags, filter_)


def loopback_up() -> int:
    """Enables the loopback interface. Returns 0, so that it can be a step."""
    probe = _check(_plain.socket(2, 2, 0), "socket")  # AF_INET, SOCK_DGRAM
    _check(_plain.ioctl(probe, 0x8914, _LOOPBACK_UP), "loopback")  # SIOCSIFFLAGS
    _plain.close(probe)
    return 0


_LOOPBACK_UP: Final = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # UP, RUNNING


def write_file(path: str, text: str) -> int:
    """Writes a file without the layers of `open`, each of which copies pages in a forked process. Returns 0,
    so that it can be a step.
    """
    fd = _check(_plain.open(path.encode(), os.O_WRONLY | os.O_CLOEXEC), path)
    try:
        _check(_plain.write(fd, text.encode(), len(text.encode())), path)
    finally:
        _plain.close(fd)
    return 0


def openat2(dir_fd: int, path: str, flags: int, mode: int, resolve: int) -> int:
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode if flags & os.O_CREAT else 0, resolve)
    result: int = _libc.syscall(_SYS_OPENAT2, dir_fd, os.fsencode(path), how, len(how))
    return _check(result, path)


def inotify_init() -> int:
    return _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")


def inotify_add(fd: int, path: str, mask: int) -> int:
    return _check(_libc.inotify_add_watch(fd, os.fsencode(path), mask), path)


def boot_id() -> str:
    """Returns the kernel's boot id, which two processes share only if they run on one machine. Empty where
    there is none, as in gVisor."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""
