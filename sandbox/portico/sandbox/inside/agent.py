"""The agent: process 1 of a sandbox. It keeps the kernel and the processes, and serves the owner's calls.

It runs under the same user, filter and limits as the code it serves, so it can do no more than that code;
but it is another process, not dumpable, and immune to signals from within, so it can tell the owner the
truth about a kernel that has died.
"""

import gc
import os
import resource
import signal
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn, Protocol

from . import files, kernels, linux, network, packages, paths, processes, sockets, tree, wire
from .calls import Call, Failure
from .loop import READ, WRITE, Loop

_MAX_CALLS: Final = 640  # of both sides
_RESET_ROUNDS: Final = 200
_RECEIVE: Final = 32 << 10  # bytes; more would be mapped and unmapped by malloc at every read
_BACKLOG: Final = 16 << 20  # bytes not yet taken by the owner, beyond which nothing more is read from it


class Stream(Protocol):
    """What the way to the owner can do: a socket, or whatever behaves like one."""

    def fileno(self) -> int: ...
    def setblocking(self, flag: bool, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytearray, /) -> int: ...


class Agent:
    _channel: Stream

    def __init__(self) -> None:
        self.loop = Loop()
        self._parser = wire.Parser()
        self._calls: dict[int, Call] = {}
        self._next_call = wire.AGENT_CALL
        self._out = bytearray()
        self.env: dict[str, str] = {}
        self.processes = processes.Processes(self.loop, self._only_stdio)
        self.kernel = kernels.Kernels(self.loop, self._only_stdio)
        self.network = network.Network(self.loop, self.open_call)
        self._operations: dict[str, Callable[[Call, dict[str, Any]], None]] = {
            "ping": lambda call, _request: call.end(),
            "start": self._start,
            "reset": self._reset,
            **self.kernel.operations(),
            **self.processes.operations(),
            **files.operations(self.loop, self.processes),
            **self.network.operations(),
        }

    def open(self, channel: Stream) -> None:
        """Takes the owner's calls from here on. Until then, nothing belongs to one process only."""
        channel.setblocking(False)
        self._channel = channel
        self.loop.open()
        self.loop.on_child_exit(self._reap)
        self.loop.after_turn = self._flush
        self.loop.watch(channel.fileno(), READ, self._ready)

    def open_call(self) -> Call:
        """A call from this side; the owner is told by a CALL frame, which the caller sends."""
        self._next_call = wire.AGENT_CALL | ((self._next_call + 1) & 0x7FFFFFFF)
        return self._add(self._next_call)

    @property
    def busy(self) -> bool:
        """Whether a call has not ended yet."""
        return bool(self._calls)

    def _add(self, number: int) -> Call:
        call = Call(number, self._send, self._ended)
        self._calls[number] = call
        return call

    def _ended(self, number: int) -> None:
        self._calls.pop(number, None)

    def _only_stdio(self) -> None:
        """In a child that was forked from here: lets go of everything but the standard streams, and what a
        kernel keeps from 900 on."""
        self.loop.close()
        os.closerange(3, 900)
        os.closerange(903, 4096)

    def _start(self, call: Call, request: dict[str, Any]) -> None:
        self.kernel.env = self.processes.env = packages.shown(request["env"])
        paths.roots[paths.OWN :] = request["roots"]
        limits: list[tuple[int, int]] = []
        for name, most in request.get("rlimits", {}).items():
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (most, most))
            limits.append((kind, most))
        call.end(**(paths.shown() if request["roots"] else {}))
        self._flush()  # the owner need not wait for the kernel; if it cannot start, the first cell says so
        if request["kernel"]:
            self.kernel.tell_environment(limits)
            self.kernel.ensure()

    def _reset(self, call: Call, _request: dict[str, Any]) -> None:
        """Ends everything that runs, however it was left behind, and starts a new kernel."""
        for _ in range(_RESET_ROUNDS):
            if not tree.kill_all():
                break
            time.sleep(0.005)
            self._reap()
        self.kernel.forget_death()
        self.kernel.ensure()
        call.end()

    def _ready(self, events: int) -> None:
        if not events & ~WRITE:
            return  # there is room again, and the end of this turn uses it
        try:
            data = self._channel.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            os._exit(0)  # the owner is gone; the kernel kills everything else with this process
        for number, kind, payload in self._parser.feed(data):
            self._frame(number, kind, payload)

    def _frame(self, number: int, kind: int, payload: bytes) -> None:
        if kind == wire.CALL:
            call = self._add(number)
            try:
                if len(self._calls) > _MAX_CALLS:
                    raise Failure("limit", f"more than {_MAX_CALLS} calls at once", limit="calls")
                request = wire.parse_json(payload)
                self._operations[request["op"]](call, request)
            except Exception as error:  # one call's mistake is that call's answer
                call.fail(error)
            return
        known = self._calls.get(number)
        if known is None:
            return  # it ended while the frame was on its way
        try:
            if kind == wire.IN:
                known.accept(payload)
            elif kind == wire.ACK:
                known.acknowledged(int.from_bytes(payload, "big"))
            elif kind == wire.CANCEL:
                if known.on_cancel:
                    known.on_cancel(wire.parse_json(payload or b"{}"))
                else:
                    known.end(error={"kind": "cancelled", "message": "cancelled"})
        except Exception as error:
            known.fail(error)

    def _send(self, frame: bytes) -> None:
        self._out += frame  # it goes out with all else that this turn of the loop makes

    def _flush(self) -> None:
        if not self._out:
            return
        try:
            sent = self._channel.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:
            os._exit(0)
        del self._out[:sent]
        self._watch()

    def _watch(self) -> None:
        events = (WRITE if self._out else 0) | (READ if self.has_room() else 0)
        self.loop.watch(self._channel.fileno(), events, self._ready)

    def has_room(self) -> bool:
        """False while so much waits to be sent that no more calls are taken."""
        return len(self._out) < _BACKLOG

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if not self.kernel.exited(pid, code):
                self.processes.exited(pid, code)


def become(agent: Agent, channel: Stream, listener: int, *, kernel_first: bool = False) -> NoReturn:
    """Serves as process 1 until the owner goes. The agent may have been made before the fork, in memory that
    all share. With the kernel first, what the two do from now on happens in pages of their own, once. The
    listener is the system call filter's, or -1 where it has none."""
    begin(agent, channel, kernel_first=kernel_first)
    if listener >= 0:
        sockets.count(agent.loop, listener)
    while True:
        agent.loop.turn()


def begin(agent: Agent, channel: Stream, *, kernel_first: bool) -> None:
    """All that comes before the first turn of the agent's loop."""
    linux.on_signal(signal.SIGINT, linux.IGNORE)
    os.umask(0o022)
    gc.disable()  # it makes no cycles to speak of, and a collection would copy pages shared with the zygote
    agent.open(channel)
    if kernel_first:
        agent.kernel.ensure()
    agent.network.listen()  # while the kernel starts


def refuse(channel: int, error: BaseException) -> None:
    """Tells the owner why this sandbox cannot be: the answer to its first call."""
    told = {"kind": "boot", "message": f"{type(error).__name__}: {error}"}
    if isinstance(error, Failure):
        told = error.answer
    try:
        os.write(channel, wire.pack_json(1, wire.END, {"error": told}))
    except OSError:
        pass  # nobody is left to tell
