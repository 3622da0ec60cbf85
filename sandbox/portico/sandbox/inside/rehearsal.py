"""Rehearsal: before a zygote serves, it repeats what it and every sandbox will do.

A fork pays for each page that it is the first to write to, and Python writes even where it seems only to
read. A function counts its first calls in its code object, and each instruction counts until it is
specialized. A method lookup updates the interpreter's cache, and with it the reference counts of two names.
What was done a few times in the zygote causes none of these writes in its forks.
"""

import _socket
import io
import linecache
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

from . import checkpoints, kernel, linux, output, wire
from .agent import Agent, begin
from .zygote import Zygote

_TIMES: Final = 10  # a function is warm after 8 calls; its instructions are specialized in the next few
_REQUEST: Final[dict[str, Any]] = {
    "id": 1, "uid": 1, "disk_bytes": 1 << 28, "inodes": 1 << 16, "rlimits": [(0, 1), (1, 1)],
}  # fmt: skip
_NO_FDS: Final = [*range(1 << 20, (1 << 20) + 5)]  # for steps that are not executed


def rehearse(zygote: Zygote, env: dict[str, str]) -> None:
    """Runs the rehearsal; it leaves no process, descriptor, handler or name behind. Raises OSError if no
    sandbox can be made."""
    owner, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    zygote.open(control)
    teller, stage = _socket.socketpair()
    understudy = _Understudy(stage.fileno())
    keeper = checkpoints.Checkpoints(lambda _frame: None, lambda: 0)  # always takes the child's path
    for number in range(_TIMES):
        _spawn(zygote, owner)
        zygote.lock_up({**_REQUEST, "births": 1, "lists": 3}, _NO_FDS, [], linux.pretend)
        cell = {
            "op": "cell",
            "code": f"x = {number}\nprint('%d' % x)\n(x + 1, 'text')",
            "output_bytes": 1 << 20,
        }
        _serve(cell, env, zygote.fork)
        understudy.play(cell, teller)
        keeper.take(str(number))
        os.closerange(1 << 20, 1 << 20)  # an empty range
    understudy.play({"op": "cell", "code": "1 / 0"}, teller)
    for pipe in keeper.pipes:
        os.close(pipe)
    linecache.cache.clear()
    linux.on_signal(signal.SIGINT, linux.IGNORE)
    linux.on_signal(signal.SIGCHLD, linux.DEFAULT)
    for one in (owner, control, teller, stage):
        one.close()


def _spawn(zygote: Zygote, owner: socket.socket) -> None:
    """Requests a sandbox that cannot start, because its task lists are missing, and so exits at once."""
    ours, theirs = _socket.socketpair()
    socket.send_fds(owner, [wire.encode({**_REQUEST, "births": 0})], [theirs.fileno()])
    theirs.close()
    zygote.turn()
    answer, fds, _, _ = socket.recv_fds(owner, 1024, 1)
    if not fds:
        raise OSError(answer.decode())  # such as a reached limit of processes
    os.close(fds[0])
    zygote.turn()  # handles its exit
    ours.close()


def _serve(cell: dict[str, Any], env: dict[str, str], fork: Callable[[], int]) -> None:
    """Runs a supervisor with a kernel, from its start to the kernel's end."""
    owner, theirs = _socket.socketpair()
    agent = Agent()
    agent.kernel.env = agent.processes.env = env
    agent.kernel.fork = fork
    begin(agent, theirs, kernel_first=True)
    process = output.Process({"command": ["rehearsal"], "keep": False, "output_bytes": 1})
    process.keep_output(b"x", wire.OUT)
    process.describe()
    owner.send(wire.pack_json(1, wire.CALL, {"op": "ping"}))
    agent.loop.turn()
    owner.send(wire.pack_ack(1, 1) + wire.pack(1, wire.IN) + wire.pack_json(2, wire.CALL, cell))
    agent.loop.later(0, lambda: None)
    agent.loop.turn()
    while agent.busy:
        agent.loop.turn()
    _check(owner.recv(1 << 16))
    os.kill(agent.kernel.pid, signal.SIGKILL)
    while agent.kernel.pid:
        agent.loop.turn()
    signal.set_wakeup_fd(-1)  # otherwise the next SIGCHLD writes to a reused descriptor
    agent.network.close()
    agent.loop.close()
    owner.close()
    theirs.close()


def _check(told: bytes) -> None:
    """Checks that the last call has succeeded."""
    *_, (_, kind, payload) = wire.Parser().feed(told)
    error = wire.parse_json(payload).get("error")
    if kind != wire.END or error is not None:
        raise OSError(f"a kernel cannot run: {error}")


class _Understudy:
    """A kernel in the zygote itself, whose output is discarded."""

    def __init__(self, control: int) -> None:
        self._control = control
        self._kernel = kernel.Kernel(control)
        self._kernel.cells.adopt(kernel.shell())
        self._output = io.TextIOWrapper(
            io.BytesIO(), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )

    def play(self, request: dict[str, Any], teller: _socket.socket) -> None:
        """Starts the kernel and makes it serve one request, sent from the other end of its control socket."""
        told = wire.encode(request)
        teller.send(kernel.LENGTH.pack(len(told)) + told)
        saved = sys.stdout, sys.displayhook, sys.modules["__main__"]
        sys.stdout = self._output
        kernel.enter(self._control, 1, 2, lambda: None, linux.pretend)
        linux.write_file("/dev/null", "")
        self._kernel.open()
        self._kernel.turn()
        sys.stdout, sys.displayhook, sys.modules["__main__"] = saved
        teller.recv(1 << 16)
