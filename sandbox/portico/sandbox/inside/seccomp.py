"""The system call filter of every sandbox, assembled here without a library.

It refuses system calls that tools do not need and through which the kernel has been attacked, and those that
use memory or table entries of the whole machine. Others are allowed: namespaces limit what they reach. A
system call of another architecture's table kills the process.
"""

import errno
import itertools
import operator
import os
import struct
from collections.abc import Iterable
from typing import Final

_ALLOW: Final = 0x7FFF0000
_ASK: Final = 0x7FC00000  # notifies process 1, which counts them: see `sockets`
_KILL: Final = 0x80000000
_ERRNO: Final = 0x00050000
_DENY: Final = _ERRNO | errno.EPERM
_MISSING: Final = _ERRNO | errno.ENOSYS
_NO_EFFECT: Final = _ERRNO  # the call reports success

_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Names with their numbers on x86_64 and aarch64; None where the architecture has no such call.
_DENIED: Final[dict[str, tuple[int | None, int | None]]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "setns": (308, 268), "unshare": (272, 97), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "open_tree_attr": (467, 467),
    "statmount": (457, 457), "listmount": (458, 458),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "swapon": (167, 224), "swapoff": (168, 225),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "create_module": (174, None), "get_kernel_syms": (177, None), "query_module": (178, None),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "settimeofday": (164, 170), "adjtimex": (159, 171),
    "sethostname": (170, 161), "setdomainname": (171, 162), "acct": (163, 89), "syslog": (103, 116),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "vhangup": (153, 58),
    "personality": (135, 92), "lookup_dcookie": (212, 18), "nfsservctl": (180, 42), "uselib": (134, None),
    "ustat": (136, None), "sysfs": (139, None), "_sysctl": (156, None),
    "mbind": (237, 235), "set_mempolicy": (238, 237), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "memfd_secret": (447, 447),
    "vmsplice": (278, 75),
}  # fmt: skip
_CLONE, _CLONE3, _IOCTL, _PRCTL, _SECCOMP = (56, 220), (435, 435), (16, 29), (157, 167), (317, 277)
_SOCKET, _SOCKETPAIR, _SETSOCKOPT, _CONNECT = (41, 198), (53, 199), (54, 208), (42, 203)
_SENDTO, _SENDMSG, _SENDMMSG = (44, 206), (46, 211), (307, 269)
_IO_SETUP, _MMAP, _MEMFD_CREATE, _SHMGET = (206, 0), (9, 222), (319, 279), (29, 194)
_NAMESPACES: Final = 0x7E020080  # every CLONE_NEW* flag, NEWTIME among them
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_STREAM, _DATAGRAM, _RAW = 1, 2, 3
_TTY_INJECTION: Final = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_PRLIMIT: Final = (302, 261)
_FCNTL: Final = (72, 25)
# F_SETLEASE delays every open of the file, for 45 s each time; F_NOTIFY reveals who uses a directory.
_OF_SHARED_FILES: Final = (1024, 1026)
_PR_SET_SECCOMP, _PR_SET_VMA, _SECCOMP_SET_MODE_FILTER = 22, 0x53564D41, 1
_MSG_FASTOPEN: Final = 0x20000000
_MAP_HUGETLB, _MFD_HUGETLB, _SHM_HUGETLB = 0x40000, 0x4, 0o4000

# Socket options by level. Each uses memory that no control group counts, or an entry of a table that all
# network namespaces share. A sandbox has no interface that reaches a multicast group.
_BUFFERS: Final = {7: _NO_EFFECT, 8: _NO_EFFECT}  # SO_SNDBUF and SO_RCVBUF: the system's defaults stay
_FILTERS: Final = dict.fromkeys((26, 50, 51, 52), _DENY)  # SO_ATTACH_*: use the machine's bpf_jit_limit
_NO_DEVICE: Final = _ERRNO | errno.ENODEV
_MULTICAST: Final = dict.fromkeys((42, 46), _NO_DEVICE)  # MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP
_OPTIONS: Final = {
    1: _BUFFERS | _FILTERS,
    0: _MULTICAST | dict.fromkeys((35, 39), _NO_DEVICE),  # IP_ADD_MEMBERSHIP, _SOURCE_MEMBERSHIP
    # IPV6_ADD_MEMBERSHIP, IPV6_JOIN_ANYCAST; IPV6_FLOWLABEL_MGR (4,096 labels for the machine), IPV6_RTHDR
    41: _MULTICAST | {20: _NO_DEVICE, 27: _NO_DEVICE, 32: _DENY, 57: _DENY},
    # TCP_ULP (TLS in the kernel), and keys: TCP_MD5SIG, TCP_MD5SIG_EXT, TCP_AO_ADD_KEY
    6: dict.fromkeys((31, 14, 32, 38), _DENY),
}

_NR, _ARCH, _ARGUMENTS = 0, 4, 16
_LOAD, _JUMP_EQ, _JUMP_GE, _JUMP_SET, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06


def _op(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("HBBI", code, then, otherwise, value)


def _argument(index: int) -> int:
    return _ARGUMENTS + 8 * index  # the low half, on little-endian machines


def _answer(value: int) -> list[bytes]:
    return [_op(_RETURN, value)]


def _when(values: Iterable[int], body: list[bytes]) -> list[bytes]:
    """Returns code that runs the body if the loaded number is one of the values; the body must return."""
    *others, last = values
    tests = [_op(_JUMP_EQ, value, len(others) - place, 0) for place, value in enumerate(others)]
    return [*tests, _op(_JUMP_EQ, last, 0, len(body)), *body]


def _by(argument: int, bodies: dict[int, list[bytes]], otherwise: int, mask: int = 0) -> list[bytes]:
    """Returns code that selects a body by the value of an argument, or of its bits in the mask."""
    code = [_op(_LOAD, _argument(argument)), *([_op(_AND, mask)] if mask else [])]
    for value, body in bodies.items():
        code += _when([value], body)
    return [*code, *_answer(otherwise)]


def _values(argument: int, answers: dict[int, int], otherwise: int) -> list[bytes]:
    code = [_op(_LOAD, _argument(argument))]
    for answer in dict.fromkeys(answers.values()):
        code += _when([value for value in answers if answers[value] == answer], _answer(answer))
    return [*code, *_answer(otherwise)]


def _flags(argument: int, mask: int, answer: int) -> list[bytes]:
    """Returns code that gives the answer if one of the bits is set."""
    return [
        _op(_LOAD, _argument(argument)),
        _op(_JUMP_SET, mask, 0, 1),
        *_answer(answer),
        *_answer(_ALLOW),
    ]


def _sockets(counted: int) -> list[bytes]:
    """Allows Unix, TCP and UDP sockets, and netlink's for the addresses and interfaces that glibc queries.
    Other protocols fail as if the kernel did not have them."""
    unsupported = _ERRNO | errno.EPROTONOSUPPORT
    internet = _by(
        1,
        {
            _STREAM: _values(2, {0: _ALLOW, 6: _ALLOW}, unsupported),
            _DATAGRAM: _values(2, {0: counted, 17: counted}, unsupported),
            _RAW: _answer(_DENY),
        },
        unsupported,
        mask=0xF,
    )
    return [
        _op(_LOAD, _argument(0)),
        *_when([_UNIX], _values(2, {0: _ALLOW, 1: _ALLOW}, unsupported)),
        *_when([_NETLINK], _values(2, {0: counted}, unsupported)),
        *_when([_INET, _INET6], internet),
        *_answer(_DENY),
    ]


def program(machine: str | None = None, *, ask: bool = True) -> bytes:
    """Returns the filter for a machine (default: this one). Without `ask`, it allows the sockets that process
    1 would count. Raises KeyError if there is no filter for the machine."""
    machine = machine or os.uname().machine
    column = list(_AUDIT_ARCH).index(machine) if machine in _AUDIT_ARCH else -1
    if column < 0:
        raise KeyError(machine)
    code = [
        _op(_LOAD, _ARCH),
        _op(_JUMP_EQ, _AUDIT_ARCH[machine], 1, 0),
        _op(_RETURN, _KILL),
        _op(_LOAD, _NR),
    ]
    if machine == "x86_64":  # the x32 table has the same architecture number
        code += [_op(_JUMP_GE, 0x40000000, 0, 1), _op(_RETURN, _KILL)]

    invalid, no_memory, unsupported = (
        _ERRNO | number for number in (errno.EINVAL, errno.ENOMEM, errno.EOPNOTSUPP)
    )
    bodies = {
        _CLONE: _flags(0, _NAMESPACES, _DENY),
        # Threads need clone with plain flags. clone3 has its flags in memory: without it, glibc uses clone.
        _CLONE3: _answer(_MISSING),
        _SOCKET: _sockets(_ASK if ask else _ALLOW),
        _CONNECT: _answer(_ASK if ask else _ALLOW),
        # MSG_FASTOPEN connects, too.
        _SENDTO: _flags(3, _MSG_FASTOPEN, unsupported),
        _SENDMSG: _flags(2, _MSG_FASTOPEN, unsupported),
        _SENDMMSG: _flags(3, _MSG_FASTOPEN, unsupported),
        _SOCKETPAIR: _values(0, {_UNIX: _ALLOW}, _DENY),
        _SETSOCKOPT: _by(1, {level: _values(2, told, _ALLOW) for level, told in _OPTIONS.items()}, _ALLOW),
        _IOCTL: _values(1, dict.fromkeys(_TTY_INJECTION, _DENY), _ALLOW),
        _FCNTL: _values(1, dict.fromkeys(_OF_SHARED_FILES, invalid), _ALLOW),
        _IO_SETUP: _answer(_MISSING),  # its requests count towards the machine's aio-max-nr
        # Huge pages belong to the machine, and no control group counts them.
        _MMAP: _flags(3, _MAP_HUGETLB, no_memory),
        _MEMFD_CREATE: _flags(1, _MFD_HUGETLB, invalid),
        _SHMGET: _flags(2, _SHM_HUGETLB, no_memory),
        # A process may limit itself. Process 1 has the same user, and must not be kept from opening or
        # writing.
        _PRLIMIT: _values(0, {0: _ALLOW}, _DENY),
        # A program's own filters also use bpf_jit_limit; programs treat the error as a kernel without
        # filters. No control group counts the names of mappings.
        _PRCTL: _values(0, {_PR_SET_SECCOMP: invalid, _PR_SET_VMA: invalid}, _ALLOW),
        _SECCOMP: _values(0, {_SECCOMP_SET_MODE_FILTER: invalid}, _ALLOW),
    }
    cases = {call[column]: body for call, body in bodies.items()}
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            cases[number] = _answer(_DENY)
    return b"".join([*code, *_tree(sorted(cases.items()), _op(_RETURN, _ALLOW))])


def _tree(cases: list[tuple[int, list[bytes]]], otherwise: bytes) -> list[bytes]:
    """Returns code that finds the loaded number by bisection; each case must return. On installation, the
    kernel tries the filter with every number, so a long list of tests would take long."""
    if len(cases) < 6:
        tests = [
            _when([number for number, _ in same], body)
            for body, same in itertools.groupby(cases, key=operator.itemgetter(1))
        ]
        return [*itertools.chain(*tests), otherwise]
    half = len(cases) // 2
    lower, upper = _tree(cases[:half], otherwise), _tree(cases[half:], otherwise)
    return [_op(_JUMP_GE, cases[half][0], len(lower), 0), *lower, *upper]
