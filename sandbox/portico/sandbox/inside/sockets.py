"""Limits the number of sockets whose memory no control group counts. The system call filter asks process 1
for each.

A netlink socket keeps up to 256 KiB of unread data, and a datagram socket up to 64 KiB of an incomplete
message (MSG_MORE). A TCP connection that is not accepted keeps some 130 KiB, and each end of an accepted one
a packet or two, whatever the limit of its group. The kernel charges none of it to a group. Simultaneous
requests may exceed a limit, by at most one per process.

Process 1 must neither create such a socket nor connect one: it would wait for itself.
"""

import errno
import fcntl
import os
import struct
from typing import Final

from .loop import READ, Loop

NETLINK: Final = 16  # concurrent netlink sockets; glibc opens one for a moment to list addresses
DATAGRAMS: Final = 512  # sockets of all kinds, from which on no datagram socket is created
CONNECTED: Final = 1_024  # sockets of all kinds, from which on none is connected
_AF_NETLINK: Final = 16
_CONNECT: Final = {"x86_64": 42, "aarch64": 203}.get(os.uname().machine)
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND
_QUESTION: Final = struct.Struct("QII iIQ 6Q")  # struct seccomp_notif
_ANSWER: Final = struct.Struct("QqiI")  # struct seccomp_notif_resp
_CONTINUE: Final = 1


def count(loop: Loop, listener: int) -> None:
    """Answers the filter's notifications from now on."""

    def asked(_events: int) -> None:
        question = bytearray(_QUESTION.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, question)
            number, _pid, _flags, call, _arch, _ip, first, *_ = _QUESTION.unpack(question)
            answer = (number, 0, 0, _CONTINUE) if _few(call, first) else (number, 0, -errno.ENOBUFS, 0)
            fcntl.ioctl(listener, _SEND, _ANSWER.pack(*answer))
        except OSError:
            pass  # the process was killed while it waited

    loop.watch(listener, READ, asked)


def _few(call: int, family: int) -> bool:
    """Whether the call may proceed. False where the number of sockets is unknown."""
    try:
        if call == _CONNECT:
            return _number("/proc/self/net/sockstat", b"sockets:") < CONNECTED
        if family == _AF_NETLINK:
            return _number("/proc/self/net/protocols", b"NETLINK") < NETLINK
        return _number("/proc/self/net/sockstat", b"sockets:") < DATAGRAMS
    except (OSError, StopIteration):
        return False


def _number(path: str, name: bytes) -> int:
    """Returns the third column of a table's line. Raises OSError, StopIteration."""
    with open(path, "rb", buffering=0) as table:
        lines = (line.split() for line in table.read(1 << 16).splitlines())
        return next(int(words[2]) for words in lines if words[:1] == [name])
