"""The supervisor: process 1 of a sandbox. It controls the kernel and the processes, and serves the owner's
calls.

It runs under the same user, system call filter and limits as the code inside, so it can do no more than that
code. But it is a separate process, not dumpable, and immune to signals from inside, so it can report
truthfully that a kernel has died.
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

_MAX_CALLS: Final = 640  # of both sides together
_RESET_ROUNDS: Final = 200
_RECEIVE: Final = 32 << 10  # bytes; more would be mapped and unmapped by malloc at every read
_BACKLOG: Final = 16 << 20  # unsent bytes beyond which nothing more is read from the owner


class Stream(Protocol):
    """The connection to the owner: a socket, or an object with the same methods."""

    def fileno(self) -> int: ...
    def setblocking(self, flag: bool, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytearray, /) -> int: ...


class Agent:
    """Serves calls: reads frames, runs their operations, and sends the answers."""

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
        """Serves the owner's calls from now on. Before, the object holds nothing that belongs to one
        process."""
        channel.setblocking(False)
        self._channel = channel
        self.loop.open()
        self.loop.on_child_exit(self._reap)
        self.loop.after_turn = self._flush
        self.loop.watch(channel.fileno(), READ, self._ready)

    def open_call(self) -> Call:
        """Creates a call to the owner; the caller then announces it by a CALL frame."""
        self._next_call = wire.AGENT_CALL | ((self._next_call + 1) & 0x7FFFFFFF)
        return self._add(self._next_call)

    @property
    def busy(self) -> bool:
        """Whether a call is open."""
        return bool(self._calls)

    def _add(self, number: int) -> Call:
        call = Call(number, self._send, self._ended)
        self._calls[number] = call
        return call

    def _ended(self, number: int) -> None:
        self._calls.pop(number, None)

    def _only_stdio(self) -> None:
        """In a forked child: closes all descriptors except the standard streams and those of a kernel, which
        begin at 900."""
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
        self._flush()  # before the kernel starts, so that the owner need not wait for it
        if request["kernel"]:
            self.kernel.tell_environment(limits)
            self.kernel.ensure()

    def _reset(self, call: Call, _request: dict[str, Any]) -> None:
        """Ends all processes, also orphans, and starts a new kernel."""
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
            return  # only writable: the end of this turn sends
        try:
            data = self._channel.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            os._exit(0)  # the owner is gone; with process 1 the system ends all others
        for number, kind, payload in self._parser.feed(data):
            self._frame(number, kind, payload)

    def _frame(self, number: int, kind: int, payload: bytes) -> None:
        if kind == wire.CALL:
            call = self._add(number)
            try:
                if len(self._calls) > _MAX_CALLS:
                    raise Failure("limit", f"more than {_MAX_CALLS} calls are open", limit="calls")
                request = wire.parse_json(payload)
                self._operations[request["op"]](call, request)
            except Exception as error:  # a mistake in one call is the answer to that call
                call.fail(error)
            return
        known = self._calls.get(number)
        if known is None:
            return  # the call ended while the frame was in flight
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
        self._out += frame  # sent with all other frames of this turn of the loop

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
        """False while so much is unsent that no more calls are read."""
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
    """Serves as process 1 until the owner is gone.

    Args:
        agent: It may have been made before the fork, in memory shared by all sandboxes.
        channel: The connection to the owner.
        listener: The listener of the system call filter; -1 if there is none.
        kernel_first: Fork the kernel before anything else, so that fewer pages are copied for both.
    """
    begin(agent, channel, kernel_first=kernel_first)
    if listener >= 0:
        sockets.count(agent.loop, listener)
    while True:
        agent.loop.turn()


def begin(agent: Agent, channel: Stream, *, kernel_first: bool) -> None:
    """Does what precedes the first turn of the supervisor's loop."""
    linux.on_signal(signal.SIGINT, linux.IGNORE)
    os.umask(0o022)
    gc.disable()  # it makes hardly any cycles, and a collection would copy pages shared with the zygote
    agent.open(channel)
    if kernel_first:
        agent.kernel.ensure()
    agent.network.listen()  # while the kernel starts


def refuse(channel: int, error: BaseException) -> None:
    """Answers the owner's first call with the reason why the sandbox cannot be started."""
    told = {"kind": "boot", "message": f"{type(error).__name__}: {error}"}
    if isinstance(error, Failure):
        told = error.answer
    try:
        os.write(channel, wire.pack_json(1, wire.END, {"error": told}))
    except OSError:
        pass  # the owner is gone
