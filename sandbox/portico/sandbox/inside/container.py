"""Process 1 of a container: the supervisor, connected to the owner by the container's standard streams.

The engine has set the user, the namespaces, the limits and its own system call filter. This process adds
another filter, and then runs untrusted code. When the owner is gone, the engine closes standard input, and
the container ends.
"""

import errno
import os
import sys
from typing import NoReturn

from . import agent, kernel, linux, preload, seccomp
from .loop import READ, WRITE


class _Pipes:
    """The supervisor's channel, over two pipes."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self.writer = reader, writer

    def fileno(self) -> int:
        return self._reader

    def setblocking(self, flag: bool) -> None:
        for fd in (self._reader, self.writer):
            os.set_blocking(fd, flag)

    def recv(self, size: int) -> bytes:
        return os.read(self._reader, size)

    def send(self, data: bytearray) -> int:
        return os.write(self.writer, data)


class _Agent(agent.Agent):
    def __init__(self, channel: _Pipes) -> None:
        super().__init__()
        self._pipes = channel

    def _watch(self) -> None:
        self.loop.watch(self._pipes.fileno(), READ if self.has_room() else 0, self._ready)
        if self._out:
            self.loop.watch(self._pipes.writer, WRITE, self._ready)
        else:
            self.loop.forget(self._pipes.writer)


def _install_filter() -> int:
    """Returns the filter's listener; -1 in gVisor, which has none and counts socket memory as the
    sandbox's."""
    try:
        return linux.follow([linux.installing_filter(seccomp.program())])
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    linux.follow([linux.installing_filter(seccomp.program(ask=False), listening=False)])
    return -1


def main() -> NoReturn:
    """Runs the supervisor. The arguments are the modules to preload."""
    channel = _Pipes(os.dup(0), os.dup(1))
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)
    try:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
        preload.load(sys.argv[1:])  # before the filter, which asks this process about the sockets of modules
        listener = _install_filter()
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        os.chdir("/workspace")
        kernel.prepare()
        agent.become(_Agent(channel), channel, listener)
    except BaseException as error:  # the owner gets any error
        agent.refuse(channel.writer, error)
    finally:
        os._exit(1)
