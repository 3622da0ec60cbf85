"""Checkpoints of a kernel: forked processes that wait until they are restored."""

import os
import select
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

from . import wire

LENGTH: Final = struct.Struct("!I")
MOST: Final = 16
_PID: Final = b"%10d}"  # the end of an answer


class Checkpoints:
    """The checkpoints of one kernel, by name."""

    def __init__(self, write: Callable[[bytes], None], fork: Callable[[], int]) -> None:
        self._write = write
        self._fork = fork
        self._names: list[str] = []
        self.pipes: list[int] = []  # to the waiting parents, the newest last

    def take(self, name: str) -> dict[str, Any] | None:
        """Forks. The parent waits as the checkpoint; each time its child is rolled back, it forks another.

        The parent sends an answer that was encoded before the fork: after it, the operating system copies
        each page that is written to, and encoding writes to a hundred. At a rollback it answers before it
        forks, because it still is the checkpoint. Returns None in the process that goes on as the kernel.
        """
        if len(self._names) >= MOST:
            return {"error": f"more than {MOST} checkpoints"}
        self._names.append(name)
        answer = wire.encode({"end": {"checkpoints": self._names}})[:-1] + b',"pid":'
        told = LENGTH.pack(len(answer) + len(_PID % 0)) + answer
        reader, writer = os.pipe()
        try:
            pid = self._fork()
        except OSError as error:
            os.close(reader)
            os.close(writer)
            self._names.pop()
            return {"error": f"no checkpoint: {error.strerror}"}
        if pid:
            self._write(told + _PID % pid)
        while pid:
            os.close(writer)
            ahead = os.pipe()
            old = self._sleep(pid, reader)
            reader, writer = ahead
            self._write(told + _PID % os.getpid())
            try:
                pid = self._fork()
            except OSError:  # this process goes on as the kernel; this checkpoint cannot be kept again
                os.waitpid(old, 0)
                os.close(reader)
                os.close(writer)
                self._names.pop()
                return None
            if pid:
                os.waitpid(old, 0)  # it ended while its successor started
            else:
                live = wire.encode({"live": os.getpid()})
                self._write(LENGTH.pack(len(live)) + live)
        os.close(reader)
        self.pipes.append(writer)
        reseed()
        return None

    def _sleep(self, pid: int, reader: int) -> int:
        """Waits; returns the child's pid when the child exits for a rollback to this checkpoint. Exits when
        an older checkpoint is restored, or the child dies."""
        poll, pidfd = select.poll(), os.pidfd_open(pid)
        for fd in (reader, pidfd):
            poll.register(fd, select.POLLIN)
        poll.poll()
        os.set_blocking(reader, False)
        try:
            steps = os.read(reader, 1)
        except BlockingIOError:
            steps = b""
        os.close(reader)
        os.close(pidfd)
        if steps == b"\0":
            return pid
        if steps:
            self._give_way(steps[0] - 1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status < 0:  # die in the same way, so that the supervisor sees how the kernel died
            if -status != signal.SIGKILL:
                signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        os._exit(abs(status))

    def roll_back(self, name: str) -> dict[str, Any]:
        """Exits for a rollback, or returns an error if the checkpoint does not exist."""
        if name in self._names:
            # The position says how many waiting parents have to exit too. The last one's child answers.
            self._give_way(len(self._names) - 1 - self._names.index(name))
        return {"error": f"no checkpoint {name!r}"}

    def _give_way(self, steps: int) -> NoReturn:
        if self.pipes:
            os.write(self.pipes[-1], bytes([steps]))
        os._exit(0)


def reseed() -> None:
    """Seeds random number generators again: a fork starts with a copy of its parent's state."""
    for name in ("random", "numpy.random"):
        if name in sys.modules:
            sys.modules[name].seed()
