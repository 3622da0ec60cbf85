"""Processes and terminals in a sandbox. Their output is kept in a ring buffer, so that a reader can attach
again.
"""

import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable
from typing import Any, Final, NoReturn

from . import linux, tree, wire
from .calls import Call, Failure, describe
from .loop import READ, WRITE, Loop
from .output import Process, Reader

WORK_FAILED: Final = 125  # exit status of a function that raised
_MAX_KEPT: Final = 64  # ended processes that are kept for queries
_LAST_READS: Final = 64  # from a pipe after its process has ended; a child may go on writing forever
_LINGER: Final = 0.05  # seconds to wait for output after the end, if a background child holds the pipe


class Processes:
    """Starts processes, feeds their input, and passes their output to calls."""

    def __init__(self, loop: Loop, close_inherited: Callable[[], None]) -> None:
        self._loop = loop
        self._close_inherited = close_inherited
        self.env: dict[str, str] = {}
        self._processes: dict[int, Process] = {}

    def operations(self) -> dict[str, Callable[[Call, dict[str, Any]], None]]:
        return {
            "run": self._run,
            "stop": lambda call, _request: self._signal_all(call, signal.SIGSTOP),
            "continue": lambda call, _request: self._signal_all(call, signal.SIGCONT),
            "process.start": self._start, "process.attach": self._attach,
            "process.list": self._list, "process.signal": self._signal, "process.resize": self._resize,
        }  # fmt: skip

    def exited(self, pid: int, code: int) -> None:
        process = self._processes.get(pid)
        if process is None:
            return  # an orphan, reparented to process 1
        process.code = code
        if process.then is not None:
            process.then()
        self._close_input(process)
        for fd in list(process.pipes):
            for _ in range(_LAST_READS):
                if not self._printed(process, fd):
                    break
        if process.pipes:
            self._loop.later(_LINGER, lambda: self._close_output(process))
        self._pump(process)
        ended = [one for one in self._processes.values() if one.code is not None and not one.readers]
        for old in ended[:-_MAX_KEPT]:
            del self._processes[old.pid]

    def work(
        self,
        call: Call,
        name: str,
        function: Callable[[], None],
        with_input: bool = False,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Runs a function in a process of its own, so that it delays no other call, and passes its output to
        the call. `then` is called when that process has ended, but not if it could not be started."""
        request = {"command": [name], "keep": False, "output_bytes": 1 << 62}
        self._run(call, request | {"stdin": with_input, "then": then}, function)

    def _run(self, call: Call, request: dict[str, Any], work: Callable[[], None] | None = None) -> None:
        """Starts a process and follows it to its end; a cancel kills it and its descendants."""
        process = self._spawn(request | {"keep": False}, work)
        self._follow(process, call, 0)

        def cancel(_request: dict[str, Any]) -> None:
            process.cancelled = True
            tree.kill(process.pid)

        call.on_cancel = cancel
        if not request.get("stdin"):
            self._close_input(process)

    def _start(self, call: Call, request: dict[str, Any]) -> None:
        process = self._spawn(request | {"keep": True})
        if not request.get("stdin") and not process.tty:
            self._close_input(process)
        call.end(**process.describe())

    def _attach(self, call: Call, request: dict[str, Any]) -> None:
        self._follow(self._find(request), call, int(request.get("offset", 0)))

    def _list(self, call: Call, _request: dict[str, Any]) -> None:
        call.end(processes=[process.describe() for process in self._processes.values() if process.keep])

    def _signal(self, call: Call, request: dict[str, Any]) -> None:
        process = self._find(request)
        if process.code is None:
            number = int(request["signal"])
            if number == signal.SIGKILL:
                tree.kill(process.pid)
            else:
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    os.kill(process.pid, number)  # it does not yet lead a group
        call.end()

    def _resize(self, call: Call, request: dict[str, Any]) -> None:
        process = self._find(request)
        if not process.tty:
            raise Failure("invalid", "the process has no terminal")
        _set_size(process.stdin, request["rows"], request["columns"])
        call.end()

    def _signal_all(self, call: Call, number: int) -> None:
        """Stops or continues all processes but this one, where there is no freezer."""
        try:
            os.kill(-1, number)
        except ProcessLookupError:
            pass  # there is no other process
        call.end()

    def _find(self, request: dict[str, Any]) -> Process:
        try:
            return self._processes[request["pid"]]
        except KeyError:
            raise Failure("no_process", f"no process {request['pid']}") from None

    def _spawn(self, request: dict[str, Any], work: Callable[[], None] | None = None) -> Process:
        process = Process(request)
        env = self.env | request.get("env", {})
        directory = os.path.join("/workspace", request.get("cwd") or "")
        if not os.path.isdir(directory):
            raise Failure("not_found", f"directory {directory!r} does not exist")
        if process.tty:
            master, terminal = os.openpty()
            _set_size(master, request["rows"], request["columns"])
            ours, theirs, process.stdin = {master: wire.OUT}, [terminal] * 3, master
        else:
            out, err, feed = os.pipe(), os.pipe(), os.pipe()
            ours, theirs, process.stdin = (
                {out[0]: wire.OUT, err[0]: wire.ERR},
                [feed[0], out[1], err[1]],
                feed[1],
            )
        try:
            pid = os.fork()
        except OSError:  # the limit of processes is reached
            for fd in {*ours, *theirs, process.stdin}:
                os.close(fd)
            raise
        if pid == 0:
            self._execute(work or (lambda: _exec(process.command, directory, env)), theirs, process.tty)
        process.pid, process.pipes = pid, ours
        for fd in set(theirs):
            os.close(fd)
        os.set_blocking(process.stdin, False)
        for fd in ours:
            os.set_blocking(fd, False)
            self._watch(process, fd)
        self._processes[pid] = process
        return process

    def _execute(self, work: Callable[[], None], fds: list[int], tty: bool) -> NoReturn:
        try:
            os.setsid()
            for number, fd in enumerate(fds):
                os.dup2(fd, number)
            if tty:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            linux.adopt_orphans()  # kept across exec: its descendants stay below it
            self._close_inherited()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            work()
            os._exit(0)
        except BaseException as error:  # in any case this process must not go on as a supervisor
            os.write(2, describe(error))
        finally:
            os._exit(WORK_FAILED)

    def _follow(self, process: Process, call: Call, offset: int) -> None:
        reader = Reader(process, call, offset)
        process.readers = [one for one in process.readers if not one.call.ended] + [reader]
        call.on_credit = lambda: self._resume(process)
        call.on_cancel = lambda _request: call.end(offset=reader.offset)
        call.listen(lambda data: self._feed(process, data, call))
        reader.pump()

    def _resume(self, process: Process) -> None:
        self._pump(process)
        for fd in process.pipes:
            self._watch(process, fd)

    def _pump(self, process: Process) -> None:
        for reader in list(process.readers):
            reader.pump()
        process.readers = [reader for reader in process.readers if not reader.call.ended]
        if not process.keep and process.code is not None and not process.readers:
            self._processes.pop(process.pid, None)

    def _watch(self, process: Process, fd: int) -> None:
        """Watches a pipe. A one-shot command waits for its reader; a kept process loses its oldest output."""
        if (
            process.keep
            or process.code is not None
            or all(reader.call.credit > 0 for reader in process.readers)
        ):
            self._loop.watch(fd, READ, lambda _events: self._readable(process, fd))
        else:
            self._loop.forget(fd)

    def _readable(self, process: Process, fd: int) -> None:
        self._printed(process, fd)

    def _printed(self, process: Process, fd: int) -> bool:
        """Reads a pipe once; False if it is empty."""
        try:
            data = os.read(fd, wire.CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # EIO: the last process has closed the terminal
        if not data:
            self._drop_pipe(process, fd)
            self._pump(process)
            return False
        if not process.over:
            process.keep_output(data, process.pipes[fd])
            if not process.keep and process.end > process.output_limit:
                process.over = True
                tree.kill(process.pid)
        self._pump(process)
        if fd in process.pipes:
            self._watch(process, fd)
        return True

    def _drop_pipe(self, process: Process, fd: int) -> None:
        self._loop.forget(fd)
        if process.pipes.pop(fd, None) is not None and fd != process.stdin:
            os.close(fd)

    def _close_output(self, process: Process) -> None:
        for fd in list(process.pipes):
            self._drop_pipe(process, fd)
        self._pump(process)

    def _feed(self, process: Process, data: bytes, call: Call) -> None:
        if not data:
            process.input_ended = True
        elif process.stdin < 0:
            call.taken(len(data))  # discarded, so that the sender does not wait for credit
        else:
            process.input.append((call, data))
        self._write_input(process)

    def _write_input(self, process: Process) -> None:
        if process.stdin < 0:
            return
        try:
            if process.input:
                call, data = process.input.popleft()
                sent = 0
                try:
                    sent = os.write(process.stdin, data)
                finally:
                    if sent < len(data):
                        process.input.appendleft((call, data[sent:]))
                    call.taken(sent)
        except BlockingIOError:
            pass
        except OSError:
            for call, data in process.input:  # it no longer reads
                call.taken(len(data))
            process.input.clear()
        if process.tty:
            if process.input:
                # Its only descriptor is already watched for reading.
                self._loop.later(0.005, lambda: self._write_input(process))
        elif process.input:
            self._loop.watch(process.stdin, WRITE, lambda _events: self._write_input(process))
        elif process.input_ended:
            self._close_input(process)
        else:
            self._loop.forget(process.stdin)

    def _close_input(self, process: Process) -> None:
        if process.stdin >= 0 and (not process.tty or process.code is not None):
            if process.stdin not in process.pipes:
                self._loop.forget(process.stdin)
                os.close(process.stdin)
            process.stdin = -1


def _exec(command: list[str], directory: str, env: dict[str, str]) -> None:
    os.chdir(directory)
    try:
        os.execvpe(command[0], command, env)  # noqa: S606  the caller's own command, isolated
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _set_size(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
