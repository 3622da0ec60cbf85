"""Quota the number of sockets whose buffers no control group counts: the kernel asks process 1 for each.

A netlink socket keeps up to 256 KiB that it has not read, a datagram socket up to 64 KiB of a message that is
not complete (MSG_MORE), and the kernel charges neither to a group. Requests at the same moment may exceed the
bound, by at most one socket for each process. Process 1 must make no such socket: it would wait for itself.
"""

import errno
import fcntl
import struct
from typing import Final

from .loop import READ, Loop

NETLINK: Final = 16  # netlink sockets at once; glibc opens one for a moment to list addresses
ALL: Final = 512  # sockets of all kinds, beyond which no more are made for datagrams
_AF_NETLINK: Final = 16
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND
_QUESTION: Final = struct.Struct("QII iIQ 6Q")  # struct seccomp_notif
_ANSWER: Final = struct.Struct("QqiI")  # struct seccomp_notif_resp
_CONTINUE: Final = 1


def count(loop: Loop, listener: int) -> None:
    """Answers what comes from the filter's listener from now on."""

    def asked(_events: int) -> None:
        question = bytearray(_QUESTION.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, question)
            number, *_, family, _, _, _, _, _ = _QUESTION.unpack(question)
            answer = (number, 0, 0, _CONTINUE) if _few(family) else (number, 0, -errno.ENOBUFS, 0)
            fcntl.ioctl(listener, _SEND, _ANSWER.pack(*answer))
        except OSError:
            pass  # it was killed while it waited

    loop.watch(listener, READ, asked)


def _few(family: int) -> bool:
    """Whether there may be one more of the family. False where that cannot be found out."""
    try:
        if family == _AF_NETLINK:
            return _number("/proc/self/net/protocols", b"NETLINK") < NETLINK
        return _number("/proc/self/net/sockstat", b"sockets:") < ALL
    except (OSError, StopIteration):
        return False


def _number(path: str, name: bytes) -> int:
    """What a line of a table has in its third column. Raises OSError, StopIteration."""
    with open(path, "rb", buffering=0) as table:
        lines = (line.split() for line in table.read(1 << 16).splitlines())
        return next(int(words[2]) for words in lines if words[:1] == [name])
