"""The Python kernel: the process that executes cells and keeps their variables.

It reads cells from a socket and answers with events. Standard output and error are pipes, so that output of
child processes and C code arrives too. This code shares a process with untrusted code: the supervisor trusts
none of its messages, and its memory contains no secrets.
"""

import _thread
import builtins
import gc
import getpass
import json
import os
import resource
import select
import signal
import sys
import types
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from . import cells, checkpoints, display, linux, loops, packages, streams, tracebacks, wire
from .checkpoints import LENGTH as LENGTH

CONTROL: Final = 900  # the control socket's descriptor; code that counts from 3 does not reach it

if TYPE_CHECKING:
    from .shell import Shell

_HOLD: Final = 64 << 10  # bytes
_NOBODY_ANSWERS: Final = (
    "input() asks the caller of the cell, and this call cannot answer: run the cell with allow_input "
    "(RunCells, cells.run or stream_cell), or give the value in the code"
)
_MOST_CELLS: Final = (1 << 31) - 1  # code can set IPython's count to any value
_NAMED: Final = 10  # types of too large contents that are reported
_encode: Final = json.JSONEncoder(default=repr, separators=(",", ":")).encode
_decode: Final = json.JSONDecoder().decode


class Kernel:
    """Serves the supervisor's requests in this process."""

    def __init__(self, control: int) -> None:
        self._control = control
        self.cells = cells.Cells(self._emit)
        self._running = self._resting = False
        self._held = b""
        self._may_ask = False
        self._asked = 0
        self._dropped: list[str] = []  # types of this cell's contents that were too large
        self._waiting = self._interrupted = False
        self._checkpoints = checkpoints.Checkpoints(self._write, os.fork)
        self._pid = self._thread = 0
        self._speaking = _thread.RLock()  # threads of a cell may display, too

    def open(self) -> None:
        """Takes over this process as the kernel."""
        self._pid, self._thread = os.getpid(), _thread.get_ident()
        self.cells.open()
        linux.on_signal(signal.SIGINT, self._interrupt)

    def before_fork(self) -> None:
        """Flushes buffers; otherwise both processes would write their content."""
        if self._pid:
            streams.flush()

    def turn(self) -> None:
        """Serves one request."""
        answer: dict[str, Any] | None
        try:
            if self.cells.loop is not None:
                self._rest(self.cells.loop)
            request = self._receive()
            operation = request.get("op")
            if operation is None:
                return  # an answer that arrived too late
            if operation == "cell":
                self._may_ask = request.get("input", False)
                answer = self._run(request["code"])
                if request.get("trial"):
                    self.cells.forget()
            elif operation == "env":
                os.environ.update(request["env"])
                for kind, most in request["rlimits"]:
                    resource.setrlimit(kind, (most, most))
                return  # without an answer
            elif operation == "checkpoint":
                answer = self._checkpoints.take(request["id"])
                self._pid = os.getpid()
                if answer is None:
                    return  # the answer was sent already
            else:
                answer = self._checkpoints.roll_back(request["id"])
        except KeyboardInterrupt:
            return  # the signal arrived after the cell that it was for
        self._send(_encode({"end": answer, "pid": self._pid}).encode())

    def _receive(self) -> Any:
        size = LENGTH.unpack(self._read(LENGTH.size))[0]
        return _decode(self._read(size).decode())

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = os.read(self._control, size - len(data))
            if not part:
                os._exit(0)  # the supervisor is gone
            data += part
        return data

    def _send(self, data: bytes, hold: bool = False) -> None:
        frame = self._held + LENGTH.pack(len(data)) + data
        if hold and len(frame) < _HOLD:
            self._held = frame  # mostly the last event of a cell: it is sent with the end
        elif os.getpid() == self._pid:  # not in a process that a cell has forked
            self._held = b""
            if hold:
                streams.flush()
            self._write(frame)

    def _write(self, frame: bytes) -> None:
        while frame:
            frame = frame[os.write(self._control, frame) :]

    def _interrupt(self, _number: int, _frame: types.FrameType | None) -> None:
        if self._waiting:
            self._interrupted = True
        elif self._running:
            raise KeyboardInterrupt
        elif self._resting and select.select([self._control], [], [], 0)[0]:
            self._interrupted = True  # a task of an earlier cell delays the next one
            raise KeyboardInterrupt

    def _rest(self, loop: loops.KernelLoop) -> None:
        self._resting = True
        try:
            loop.rest(self._control)
        finally:
            self._resting = False

    def _run(self, code: str) -> dict[str, Any]:
        self._dropped = []
        error: dict[str, Any] | None = None
        try:
            self._running = True
            if self._interrupted:
                self._interrupted = False
                raise KeyboardInterrupt
            self.cells.run(code)
            for figure in display.open_figures():
                self._emit(figure, "display")
        except BaseException as problem:  # SystemExit and KeyboardInterrupt too: the kernel goes on
            self._running = False
            if os.getpid() != self._pid:
                tracebacks.end_child(problem)
            error = tracebacks.describe(problem)
        finally:
            self._running = False
        if os.getpid() != self._pid:
            tracebacks.end_child(None)
        streams.settle()
        with self._speaking:  # a displaying thread first reads its answer
            answer = {"count": min(max(self.cells.count, 0), _MOST_CELLS), "error": error}
            return {**answer, "dropped": self._dropped} if self._dropped else answer

    def _emit(self, data: dict[str, Any], kind: str) -> None:
        forms, dropped = display.contents(data)
        self._dropped = (self._dropped + dropped)[:_NAMED]
        if not forms:
            return
        event = wire.pack_rich(kind, forms)
        if kind == "result":
            self._send(event, hold=True)
            return
        streams.flush()
        if os.getpid() != self._pid:
            print(data.get("text/plain", ""))  # in a process that the cell has forked
            return
        if _thread.get_ident() != self._thread:
            self._show_at_once(event)
            return
        # An interrupt is delayed until the answer was read; otherwise a part of the answer would remain.
        self._waiting = True
        try:
            self._show_at_once(event)
        finally:
            self._waiting = False
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def _show_at_once(self, event: bytes) -> None:
        """Waits until the supervisor has it: later output, on another pipe, must not overtake it."""
        with self._speaking:
            if self._running:  # not in a thread whose cell has ended
                self._send(event)
                while "input" in self._receive():
                    pass  # an answer that arrived too late

    def input(self, prompt: object = "", /) -> str:
        """Asks the caller of the cell, as the builtin of this name. Raises EOFError if it cannot answer."""
        return self._ask(str(prompt), password=False)

    def getpass(self, prompt: str = "Password: ", stream: object = None, **_options: object) -> str:
        """Asks the caller of the cell for a password, as the function of the module getpass."""
        return self._ask(str(prompt), password=True)

    def _ask(self, prompt: str, *, password: bool) -> str:
        if not self._may_ask or not self._running:
            raise EOFError(_NOBODY_ANSWERS)
        if os.getpid() != self._pid or _thread.get_ident() != self._thread:
            raise EOFError("only the cell's own thread can ask for input")
        streams.flush()
        with self._speaking:
            self._asked += 1
            question = {"ask": self._asked, "prompt": prompt[: wire.PROMPT], "password": password}
            self._send(_encode(question).encode())
            answer: dict[str, Any] = {}
            while answer.get("input") != self._asked:
                select.select([self._control], [], [])  # an interrupt ends this
                answer = self._whole()
        text = answer["text"]
        if text is None:
            raise EOFError("EOF when reading a line")
        return str(text)

    def _whole(self) -> Any:
        """Receives a message; an interrupt takes effect only before or after it."""
        self._waiting = True
        try:
            message = self._receive()
        finally:
            self._waiting = False
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt
        return message


_prepared: dict[str, str] | None = None  # the environment that this process has
_kernel = Kernel(CONTROL)


def make_shell() -> None:
    """Creates IPython's shell in the zygote, for all kernels, if IPython is installed."""
    _kernel.cells.load()
    _kernel.cells.be_main()


def shell() -> "Shell | None":
    """Returns IPython's shell, if it was created."""
    return _kernel.cells.shell


def prepare(env: dict[str, str] | None = None) -> None:
    """Does in the zygote what all kernels have in common."""
    global _prepared
    builtins.input, getpass.getpass = _kernel.input, _kernel.getpass
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
        _prepared = env
    streams.prepare()
    os.register_at_fork(before=_kernel.before_fork)
    packages.expect()
    sys.argv = [""]
    warnings.filterwarnings("ignore", message=".*is non-interactive, and thus cannot be shown")


def start(
    control: int, stdout: int, stderr: int, env: dict[str, str], closing: Callable[[], None]
) -> NoReturn:
    """Becomes the kernel, in a process forked from the supervisor."""
    enter(control, stdout, stderr, closing, linux.follow)
    if env is not _prepared:
        os.environ.clear()
        os.environ.update(env)
    sys.path[:0] = ["/workspace", *packages.FOLDERS]
    gc.enable()
    _kernel.open()
    while True:
        _kernel.turn()


_ALONE: Final = (
    linux.step("setsid"),
    linux.step("prctl", linux.PR_SET_DUMPABLE, 1, 0, 0, 0),  # otherwise it cannot read its own /proc entries
)
_FIRST_TO_GO: Final = ((linux.write_file, ("/proc/self/oom_score_adj", "500")),)  # the supervisor is last


def enter(
    control: int,
    stdout: int,
    stderr: int,
    closing: Callable[[], None],
    follow: Callable[[Iterable[linux.Step]], int],
) -> None:
    """Puts the process into a session of its own, and replaces the supervisor's descriptors by its
    streams."""
    null = os.open("/dev/null", os.O_RDONLY)
    follow(_ALONE)
    follow((linux.step("dup2", null, 0), linux.step("dup2", stdout, 1), linux.step("dup2", stderr, 2)))
    os.close(null)
    kept = {CONTROL: control, streams.SPARES[1]: stdout, streams.SPARES[2]: stderr}
    follow(linux.step("dup3", fd, target, os.O_CLOEXEC) for target, fd in kept.items())
    linux.adopt_orphans()  # so that all processes of a cell are found below it
    closing()
    signal.set_wakeup_fd(-1)
    linux.on_signal(signal.SIGCHLD, linux.DEFAULT)  # SIGPIPE stays ignored, as in every Python
    follow(_FIRST_TO_GO)
    checkpoints.reseed()
