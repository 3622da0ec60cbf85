"""The system call filter of every sandbox, assembled here so that no library is needed.

It refuses what a tool call never needs and the kernel has been attacked through. Anything else is allowed:
the namespaces decide what it can reach. A call of another architecture's table kills the process.
"""

import errno
import itertools
import os
import struct
from typing import Final

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERRNO: Final = 0x00050000
_DENY: Final = _ERRNO | errno.EPERM
_MISSING: Final = _ERRNO | errno.ENOSYS

_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Names with their numbers on x86_64 and aarch64; None where the architecture lacks the call.
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
_CLONE, _CLONE3, _SOCKET, _SOCKETPAIR, _IOCTL = (56, 220), (435, 435), (41, 198), (53, 199), (16, 29)
_NAMESPACES: Final = 0x7E020080  # every CLONE_NEW* flag, NEWTIME among them
_FAMILIES: Final = (1, 2, 10, 16)  # unix, inet, inet6; glibc asks netlink for the interfaces
_TTY_INJECTION: Final = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX

_NR, _ARCH, _ARGUMENTS = 0, 4, 16
_LOAD, _JUMP_EQ, _JUMP_GE, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def _op(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("HBBI", code, then, otherwise, value)


def _argument(index: int) -> int:
    return _ARGUMENTS + 8 * index  # the low half, on little-endian machines


def program(machine: str | None = None) -> bytes:
    """The filter for a machine (default: this one). Raises KeyError if there is none for it."""
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
    if machine == "x86_64":  # the x32 table shares the architecture's name
        code += [_op(_JUMP_GE, 0x40000000, 0, 1), _op(_RETURN, _KILL)]

    deny, allow = _op(_RETURN, _DENY), _op(_RETURN, _ALLOW)
    # Threads need clone with plain flags; clone3 hides its flags in memory, so glibc is sent back to clone.
    cases = {
        _CLONE[column]: [_op(_LOAD, _argument(0)), _op(_JUMP_SET, _NAMESPACES, 0, 1), deny, allow],
        _CLONE3[column]: [_op(_RETURN, _MISSING)],
    }
    for call in (_SOCKET, _SOCKETPAIR):
        tests = [_op(_JUMP_EQ, family, len(_FAMILIES) - place, 0) for place, family in enumerate(_FAMILIES)]
        cases[call[column]] = [_op(_LOAD, _argument(0)), *tests, deny, allow]
    tests = [
        _op(_JUMP_EQ, request, len(_TTY_INJECTION) - place, 0) for place, request in enumerate(_TTY_INJECTION)
    ]
    cases[_IOCTL[column]] = [_op(_LOAD, _argument(1)), *tests, allow, deny]
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            cases[number] = [deny]
    return b"".join([*code, *_tree(sorted(cases.items()), allow)])


def _tree(cases: list[tuple[int, list[bytes]]], otherwise: bytes) -> list[bytes]:
    """Finds the loaded number among the cases by halving; each case must return. When a filter is put on, the
    system tries it with every number there is, so that a long list of tests would take long."""
    if len(cases) < 4:
        tests = [[_op(_JUMP_EQ, number, 0, len(body)), *body] for number, body in cases]
        return [*itertools.chain(*tests), otherwise]
    half = len(cases) // 2
    lower, upper = _tree(cases[:half], otherwise), _tree(cases[half:], otherwise)
    return [_op(_JUMP_GE, cases[half][0], len(lower), 0), *lower, *upper]
