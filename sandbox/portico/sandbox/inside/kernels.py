"""The supervisor's control of the Python kernel: starts it, runs cells one by one, and reports how it
died."""

import _socket
import _thread
import os
import select
import signal
from collections.abc import Callable
from typing import Any, Final

from . import ends, kernel, tree, wire
from .calls import Call, Failure
from .loop import READ, WRITE, Loop

_MAX_MESSAGE: Final = wire.RICH_BYTES  # of one message from the kernel; user code may have forged it
_MAX_JSON: Final = 2 << 20  # bytes of a JSON message
_OUTPUT_GRACE: Final = 1.0  # seconds from the interrupt to the kill of a cell with too much output
_TELL: Final = 5.0  # seconds for the kernel to read a cell's code
_DRAIN: Final = 2 << 20  # bytes read at once from a pipe when a cell ends


class Kernels:
    """The current kernel of a sandbox, and its successors after a death or restart."""

    def __init__(self, loop: Loop, close_inherited: Callable[[], None]) -> None:
        self._loop = loop
        self._close_inherited = close_inherited
        self.env: dict[str, str] = {}
        self.fork: Callable[[], int] = os.fork  # used while there is one thread
        self._pid = 0
        self._live = 0  # the process that executes cells; differs from _pid once there are checkpoints
        self._told: dict[str, str] = {}
        self._control: _socket.socket | None = None
        self._buffer = bytearray()
        self._untold = bytearray()  # bytes that the kernel has not yet read
        self._pipes: dict[int, int] = {}  # descriptor -> frame kind
        self._printing = select.poll()  # the same descriptors
        self._listening = False  # whether the loop watches them
        self._call: Call | None = None
        self._operation = ""  # the operation of the call
        self._output = 0
        self._output_limit = 0
        self._over = False
        self._cancelled = False
        self._asked = 0  # the number of the kernel's open question; 0 if there is none
        self._death: dict[str, Any] | None = None
        self._after_death: list[tuple[Call, Callable[[], None]]] = []  # restarts, and calls waiting for them

    def operations(self) -> dict[str, Callable[[Call, dict[str, Any]], None]]:
        return {"cell": self._cell, "checkpoint": self._ask, "rollback": self._ask, "restart": self._restart}

    @property
    def pid(self) -> int:
        """The kernel's process id; 0 while there is no kernel."""
        return self._pid

    def ensure(self) -> None:
        """Starts a kernel if none is running."""
        if self._pid:
            return
        ours, theirs = _socket.socketpair()  # without the enums of `socket`
        out_reader, out_writer = os.pipe()
        err_reader, err_writer = os.pipe()
        try:
            # A connecting thread may hold Python's lock; a child of the bare fork would wait for it forever.
            pid = os.fork() if _thread._count() else self.fork()
        except OSError:  # the limit of processes is reached
            for fd in (ours.detach(), theirs.detach(), out_reader, out_writer, err_reader, err_writer):
                os.close(fd)
            raise
        if pid == 0:
            try:
                kernel.start(theirs.fileno(), out_writer, err_writer, self.env, self._close_inherited)
            finally:
                os._exit(1)
        theirs.close()
        os.close(out_writer)
        os.close(err_writer)
        self.adopt(pid, ours, out_reader, err_reader)

    def adopt(self, pid: int, control: _socket.socket, out: int, err: int) -> None:
        """Sets the kernel: its process, its control socket, and the pipes of its output."""
        self._pid = self._live = pid
        self._told = self.env
        self._control = control
        control.setblocking(False)
        self._buffer.clear()
        self._untold.clear()
        self._pipes = {out: wire.OUT, err: wire.ERR}
        self._printing = select.poll()
        for fd in self._pipes:
            os.set_blocking(fd, False)
            self._printing.register(fd, select.POLLIN)
        self._listening = False
        self._watch_pipes()

    def forget_death(self) -> None:
        """Discards the report of a death that was requested, so that the next cell does not fail with it."""
        self._death = None

    def tell_environment(self, limits: list[tuple[int, int]]) -> None:
        """Sends the environment and each process's limits to a kernel that was started before they were
        known."""
        if self._pid and self._call is None and (limits or self._told != self.env):
            self._tell({"op": "env", "env": self.env, "rlimits": limits})
            self._told = self.env

    def exited(self, pid: int, code: int) -> bool:
        """Handles the exit of a process. Returns True if it was the kernel; its call, or the next one, then
        fails.
        """
        if pid != self._pid or self._control is None:
            return False
        self._drain()
        for fd in self._pipes:
            self._loop.forget(fd)
            os.close(fd)
        self._loop.forget(self._control.fileno())
        self._control.close()
        self._pid, self._control, self._pipes = 0, None, {}
        death = {"kind": "kernel_died", "message": f"the Python kernel {_how(code)}", "exit_code": code}
        call, self._call = self._call, None
        if call is None:
            self._death = death
        elif self._over:
            call.end(
                error={"kind": "limit", "limit": "output", "message": "too much output", "kernel_lost": True}
            )
        elif self._cancelled:
            call.end(error={"kind": "cancelled", "message": "killed", "kernel_lost": True})
        else:
            call.end(error=death)
        self._go_on()
        return True

    def _cell(self, call: Call, request: dict[str, Any]) -> None:
        self._output_limit = request["output_bytes"]
        self._ask(call, request)

    def _ask(self, call: Call, request: dict[str, Any]) -> None:
        if self._after_death:
            self._after_death.append((call, lambda: self._ask(call, request)))
            return
        if self._call is not None:
            raise Failure("busy", "the kernel is running another cell")
        death, self._death = self._death, None
        self.ensure()
        if death is not None:
            raise Failure(**death)
        self._call, self._operation = call, request["op"]
        self._output, self._over, self._cancelled = 0, False, False
        self._asked = 0
        if request.get("input"):
            call.listen(self._answer)
        call.on_credit = self._watch_pipes
        call.on_cancel = self._cancel
        self._tell(request)

    def _tell(self, request: dict[str, Any]) -> None:
        assert self._control is not None
        data = wire.encode(request)
        waiting = bool(self._untold)
        self._untold += kernel.LENGTH.pack(len(data)) + data
        if waiting:
            return
        self._tell_more()
        if self._untold:
            pid = self._pid

            def insist() -> None:
                if self._untold and self._pid == pid:
                    tree.kill(pid)  # it does not read, and cannot be repaired

            self._loop.later(_TELL, insist)

    def _tell_more(self) -> None:
        assert self._control is not None
        try:
            del self._untold[: self._control.send(self._untold)]
        except BlockingIOError:
            pass
        except OSError:
            self._untold.clear()
            tree.kill(self._pid)
        self._watch_control()

    def _restart(self, call: Call, _request: dict[str, Any]) -> None:
        """Kills the kernel; the next cell runs in a new one, without an error for the old one's death."""

        def restart() -> None:
            self._death = None
            self.ensure()
            call.end()

        self._after_death.append((call, restart))
        if self._pid:
            tree.kill(self._pid)
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Executes restarts, then the calls that waited for them."""
        waiting, self._after_death = self._after_death, []
        for call, go_on in waiting:
            try:
                go_on()
            except Exception as error:
                call.fail(error)

    def _cancel(self, request: dict[str, Any]) -> None:
        self._cancelled = True
        self._interrupt(float(request.get("grace", 0.5)))

    def _interrupt(self, grace: float) -> None:
        call, pid = self._call, self._pid
        try:
            if grace > 0:
                os.kill(self._live, signal.SIGINT)
        except (OSError, OverflowError):
            pass  # the kernel reported the pid, which may be invalid

        def insist() -> None:
            if self._call is call and self._pid == pid:
                tree.kill(pid)

        self._loop.later(grace, insist)

    def _watch_pipes(self) -> None:
        """Reads output and objects while the call has credit. Between cells they are read and dropped, so
        that a background process of an earlier cell does not block on a full pipe."""
        listening = self._call is None or self._call.credit > 0
        if listening == self._listening:
            return
        self._listening = listening
        self._watch_control()
        for fd, kind in self._pipes.items():
            if listening:
                self._loop.watch(fd, READ, self._reader(fd, kind))
            else:
                self._loop.forget(fd)

    def _watch_control(self) -> None:
        if self._control is not None:
            events = (READ if self._listening else 0) | (WRITE if self._untold else 0)
            self._loop.watch(self._control.fileno(), events, self._ready)

    def _ready(self, events: int) -> None:
        if events & WRITE and self._untold:
            self._tell_more()
        if events & ~WRITE and self._control is not None:
            self._answered()

    def _reader(self, fd: int, kind: int) -> Callable[[int], None]:
        def readable(_events: int) -> None:
            self._printed(fd, kind)

        return readable

    def _printed(self, fd: int, kind: int) -> bool:
        """Reads a pipe once; False if it is empty."""
        try:
            data = os.read(fd, wire.CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._loop.forget(fd)
            return False
        if self._call is not None:
            self._count(len(data))
            if not self._over:
                self._call.write(data, kind)
                if self._call.credit <= 0:
                    self._watch_pipes()
        return True

    def _count(self, size: int) -> None:
        self._output += size
        if self._output > self._output_limit and not self._over:
            self._over = True
            self._interrupt(_OUTPUT_GRACE)

    def _drain(self) -> None:
        """Reads the output so far. One poll covers both pipes, because most cells print nothing."""
        for fd, _ in self._printing.poll(0):
            taken = 0
            while taken < _DRAIN and self._printed(fd, self._pipes[fd]):
                taken += wire.CHUNK

    def _answered(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(32 << 10)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._buffer += data
        drained = False
        try:
            if not data:
                raise wire.BadFrame("closed")
            while len(self._buffer) >= kernel.LENGTH.size:
                size = kernel.LENGTH.unpack_from(self._buffer)[0]
                if size > _MAX_MESSAGE:
                    raise wire.BadFrame("too long")
                end = kernel.LENGTH.size + size
                if len(self._buffer) < end:
                    return
                message = bytes(self._buffer[kernel.LENGTH.size : end])
                if not drained:
                    drained = True
                    self._drain()  # output that was printed before a message goes first
                del self._buffer[:end]
                if message.startswith(b"{"):
                    self._message(message)
                else:
                    self._show(message)
        except wire.BadFrame:
            # Only user code can have closed or forged the kernel's end, so the connection is lost.
            self._loop.forget(self._control.fileno())
            tree.kill(self._pid)

    def _show(self, payload: bytes) -> None:
        """Passes an object to the owner. Raises BadFrame."""
        role, _ = wire.unpack_rich(payload)
        if self._call is None:
            return
        self._count(wire.output_of(wire.RICH, payload))
        if not self._over:
            self._call.write(payload, wire.RICH)
            if self._call.credit <= 0:
                self._watch_pipes()
        if role == "display":
            self._tell({})

    def _message(self, payload: bytes) -> None:
        """Handles a JSON message. Raises BadFrame for one that the kernel's own code would not send."""
        if len(payload) > _MAX_JSON:
            raise wire.BadFrame("too long")
        message = wire.parse_json(payload)
        if isinstance(live := message.get("live"), int):
            self._live = live
            return
        call, answer, pid = self._call, message.get("end"), message.get("pid")
        if call is None:
            return
        if "ask" in message:
            self._pass_on(call, message)
            return
        if not isinstance(answer, dict) or type(pid) is not int:
            raise wire.BadFrame("an invalid end")
        ends.check(answer, self._operation)
        self._live = pid
        self._call = None
        if self._over:
            answer["limit"] = "output"
        if self._cancelled:
            answer["cancelled"] = True
        call.end(**answer)
        self._watch_pipes()

    def _pass_on(self, call: Call, message: dict[str, Any]) -> None:
        """Passes a cell's input request to the owner. Raises BadFrame."""
        number, prompt, password = (message.get(name) for name in ("ask", "prompt", "password"))
        if type(number) is not int or number <= self._asked or call.on_input is None:
            raise wire.BadFrame("an input request that is not allowed")
        if not isinstance(prompt, str) or len(prompt) > wire.PROMPT or type(password) is not bool:
            raise wire.BadFrame("an invalid input request")
        self._asked = number
        self._count(wire.OBJECT)
        call.event({"type": "input", "prompt": prompt, "password": password})

    def _answer(self, data: bytes) -> None:
        """Passes the owner's answer to the last question; empty data is the end of the input."""
        if self._call is not None:
            self._call.taken(len(data))
        if self._asked:
            text = data.decode(errors="replace").removesuffix("\n") if data else None
            self._tell({"input": self._asked, "text": text})


def _how(code: int) -> str:
    """Describes how a process has ended; the code is negative for a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
