"""The Python kernel: one process that keeps the variables of one sandbox from cell to cell.

It reads cells from a socket and answers with events; standard output and error are plain pipes, so that
what child processes and C code print arrives too. Everything here shares a process with untrusted code: the
agent believes none of it, and nothing of worth is in its memory.
"""

import ast
import builtins
import errno
import fcntl
import gc
import io
import json
import linecache
import os
import select
import signal
import struct
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn

from . import display, linux, magics, scratch

LENGTH: Final = struct.Struct("!I")
CONTROL: Final = 900  # the control socket's descriptor, out of the way of code that counts from 3
MAX_CHECKPOINTS: Final = 16
_HOLD: Final = 64 << 10  # bytes
_PID: Final = b"%10d}"  # the end of an answer
_encode: Final = json.JSONEncoder(default=repr, separators=(",", ":")).encode
_decode: Final = json.JSONDecoder().decode


class Kernel:
    def __init__(self, control: int) -> None:
        self._control = control
        self._module = types.ModuleType("__main__")
        self._module.__dict__.update({"__builtins__": builtins, "display": self._display, "_": None})
        self._count = 0
        self._running = False
        self._silent = False
        self._held = b""
        self._waiting = self._interrupted = False
        self._checkpoints: list[str] = []
        self._older: list[int] = []  # pipes to the sleeping parents, the youngest last

    def open(self) -> None:
        """Takes this process over."""
        sys.modules["__main__"] = self._module
        sys.displayhook = self._show
        linux.on_signal(signal.SIGINT, self._interrupt)

    def turn(self) -> None:
        """Serves one request."""
        answer: dict[str, Any] | None
        try:
            request = self._receive()
            operation = request["op"]
            if operation == "cell":
                answer = self._run(request["code"])
                if request.get("trial"):
                    self._forget()
            elif operation == "env":
                os.environ.update(request["env"])
                return  # nobody waits for an answer
            elif operation == "checkpoint":
                answer = self._checkpoint(request["id"])
                if answer is None:
                    return  # it is on its way
            else:
                answer = self._roll_back(request["id"])
        except KeyboardInterrupt:
            return  # the signal came a moment after the cell it was meant for
        self._send({"end": answer, "pid": os.getpid()})

    def _receive(self) -> Any:
        size = LENGTH.unpack(self._read(LENGTH.size))[0]
        return _decode(self._read(size).decode())

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = os.read(self._control, size - len(data))
            if not part:
                os._exit(0)  # the agent is gone
            data += part
        return data

    def _send(self, message: dict[str, Any], hold: bool = False) -> None:
        data = _encode(message).encode()
        frame = self._held + LENGTH.pack(len(data)) + data
        if hold and len(frame) < _HOLD:
            self._held = frame  # a result is mostly the last thing before the end, and goes with it
        else:
            self._held = b""
            self._write(frame)

    def _write(self, frame: bytes) -> None:
        while frame:
            frame = frame[os.write(self._control, frame) :]

    def _interrupt(self, _number: int, _frame: types.FrameType | None) -> None:
        if self._waiting:
            self._interrupted = True
        elif self._running:
            raise KeyboardInterrupt

    def _run(self, code: str) -> dict[str, Any]:
        if code and not code.isspace():
            self._count += 1  # as notebooks count
        name = f"<cell {self._count}>"
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        self._silent = code.rstrip().endswith(";")
        error: dict[str, Any] | None = None
        try:
            self._running = True
            self._execute(code, name)
            for figure in display.open_figures():
                self._emit(figure, "display")
        except BaseException as problem:  # SystemExit and KeyboardInterrupt too: the kernel lives on
            self._running = False
            error = self._describe(problem)
        finally:
            self._running = False
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:  # noqa: S110  a cell may have replaced or closed it
                pass
        return {"count": self._count, "error": error}

    def _forget(self) -> None:
        """As if no cell had been run."""
        self._count = 0
        self._module.__dict__["_"] = None
        linecache.cache.clear()

    def _execute(self, code: str, name: str) -> None:
        tree = ast.parse(magics.translate(code), name)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Interactive([tree.body.pop()])
            if tree.body:
                self._evaluate(compile(tree, name, "exec", flags, dont_inherit=True))
            self._evaluate(compile(last, name, "single", flags, dont_inherit=True))
        else:
            self._evaluate(compile(tree, name, "exec", flags, dont_inherit=True))

    def _evaluate(self, code: types.CodeType) -> None:
        if code.co_flags & 0x80:  # CO_COROUTINE: there is an await at the top
            import asyncio

            async def run() -> None:
                await types.FunctionType(code, self._module.__dict__)()

            asyncio.run(run())
        else:
            exec(code, self._module.__dict__)  # noqa: S102  this is what a kernel is for

    def _show(self, value: Any) -> None:
        if value is not None:
            self._module.__dict__["_"] = value
            if not self._silent:
                self._emit(display.bundle(value), "result")

    def _display(self, *values: Any) -> None:
        for value in values:
            self._emit(display.bundle(value), "display")

    def _emit(self, data: dict[str, Any], kind: str) -> None:
        sys.stdout.flush()
        event = {"event": {"type": kind, "data": data}}
        if kind == "result":
            self._send(event, hold=True)
            return
        # What is printed next must not overtake this on the other pipe, so the agent says when it has it. An
        # interrupt waits as long, or it would leave half an answer behind.
        self._waiting = True
        try:
            self._send(event)
            self._receive()
        finally:
            self._waiting = False
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def _describe(self, problem: BaseException) -> dict[str, Any]:
        trace = problem.__traceback__
        while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<cell "):
            trace = trace.tb_next  # the kernel's own frames say nothing to the reader
        try:
            lines = traceback.format_exception(type(problem), problem, trace)
            message = str(problem)
        except Exception:  # an exception whose own __str__ fails
            lines, message = [f"{type(problem).__name__}\n"], ""
        return {
            "name": type(problem).__name__,
            "message": message[:10_000],
            "traceback": "".join(lines)[-100_000:],
            "limit": _limit_of(problem),
        }

    def _checkpoint(self, name: str) -> dict[str, Any] | None:
        """Forks; the parent sleeps as the checkpoint, and each time its child gives way, forks another.

        The parent answers, with what was made ready: after a fork each page that is written on is copied, and
        to make an answer takes a hundred. For a rollback it answers before it forks, for what it is then is
        what the checkpoint was. Returns None in the process that serves on.
        """
        if len(self._checkpoints) >= MAX_CHECKPOINTS:
            return {"error": f"more than {MAX_CHECKPOINTS} checkpoints"}
        self._checkpoints.append(name)
        answer = _encode({"end": {"checkpoints": self._checkpoints}})[:-1].encode() + b',"pid":'
        told = LENGTH.pack(len(answer) + len(_PID % 0)) + answer
        reader, writer = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(reader)
            os.close(writer)
            self._checkpoints.pop()
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
                pid = os.fork()
            except OSError:  # this process serves on, and what it was before can't be kept again
                os.waitpid(old, 0)
                os.close(reader)
                os.close(writer)
                self._checkpoints.pop()
                return None
            if pid:
                os.waitpid(old, 0)  # it ended while its successor began
            else:
                self._send({"live": os.getpid()})
        os.close(reader)
        self._older.append(writer)
        _reseed()
        return None

    def _sleep(self, pid: int, reader: int) -> int:
        """Returns the child's pid when it gives way to this checkpoint. Ends when it gives way to an older
        one, or dies."""
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
        os._exit(status if status >= 0 else 128 - status)

    def _roll_back(self, name: str) -> dict[str, Any]:
        if name in self._checkpoints:
            # The name's place tells how many sleeping parents give way too. The last one's child answers.
            self._give_way(len(self._checkpoints) - 1 - self._checkpoints.index(name))
        return {"error": f"no checkpoint {name!r}"}

    def _give_way(self, steps: int) -> NoReturn:
        if self._older:
            os.write(self._older[-1], bytes([steps]))
        os._exit(0)


def _limit_of(problem: BaseException) -> str | None:
    """Which limit of the sandbox made the cell fail, as far as the exception tells."""
    if isinstance(problem, MemoryError):
        return "memory"
    if isinstance(problem, OSError) and problem.errno == errno.ENOSPC:
        return "inodes" if scratch.lacks_inodes() else "disk"
    if isinstance(problem, BlockingIOError) or (
        isinstance(problem, RuntimeError) and "start new thread" in str(problem)
    ):
        return "pids"
    return None


def _reseed() -> None:
    """Gives this process random numbers of its own: a fork begins with a copy of its parent's. Python's own
    module does that by itself."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


_prepared: dict[str, str] | None = None  # the environment that this process has already
_kernel = Kernel(CONTROL)


def prepare(env: dict[str, str] | None = None) -> None:
    """Does in the zygote what is the same for every kernel."""
    global _prepared
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
        _prepared = env
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    sys.argv = [""]
    warnings.filterwarnings("ignore", message=".*is non-interactive, and thus cannot be shown")


def start(
    control: int, stdout: int, stderr: int, env: dict[str, str], closing: Callable[[], None]
) -> NoReturn:
    """Becomes the kernel, in a process just forked from the agent."""
    enter(control, stdout, stderr, closing, linux.follow)
    if env is not _prepared:
        os.environ.clear()
        os.environ.update(env)
    sys.path.insert(0, "/workspace")
    gc.enable()
    _kernel.open()
    while True:
        _kernel.turn()


_ALONE: Final = (
    linux.step("setsid"),
    linux.step("prctl", linux.PR_SET_DUMPABLE, 1, 0, 0, 0),  # or its own /proc entries would be closed to it
)
_NOT_FOR_PROGRAMS: Final = linux.step("fcntl", CONTROL, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
_FIRST_TO_GO: Final = ((linux.write_file, ("/proc/self/oom_score_adj", "500")),)  # and the agent last


def enter(
    control: int,
    stdout: int,
    stderr: int,
    closing: Callable[[], None],
    follow: Callable[[Iterable[linux.Step]], None],
) -> None:
    """Makes the process one of its own, with its streams and nothing else that the agent has open."""
    null = os.open("/dev/null", os.O_RDONLY)
    follow(_ALONE)
    follow((linux.step("dup2", null, 0), linux.step("dup2", stdout, 1), linux.step("dup2", stderr, 2)))
    os.close(null)
    follow((linux.step("dup2", control, CONTROL), _NOT_FOR_PROGRAMS))
    linux.adopt_orphans()  # so that whatever a cell starts can be found below it
    closing()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGPIPE):
        linux.on_signal(number, linux.DEFAULT)
    follow(_FIRST_TO_GO)
    _reseed()
