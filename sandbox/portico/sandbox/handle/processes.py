"""Process and terminal operations on a sandbox."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from portico.sandbox import errors
from portico.sandbox.events import Lost, ProcessEnd, ProcessEvent, ProcessInfo, Stderr, Stdout
from portico.sandbox.handle.call import Call, CallMaker
from portico.sandbox.handle.replies import Reply
from portico.sandbox.inside import wire

_PIDS: Final = 1 << 22  # Linux's largest process id
_PROCESSES: Final = 10_000  # of one list


class Attachment:
    """Follows one process: iterate for its output, write to its input. Closing it does not end the
    process."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def __aiter__(self) -> AsyncGenerator[ProcessEvent, None]:
        """Yields output, then ProcessEnd, without an exit code if this attachment was closed first."""
        try:
            async for kind, payload in self._call.frames():
                if kind == wire.EVENT:
                    yield Lost(self._call.read(payload).number("bytes"))
                elif kind in (wire.OUT, wire.ERR):
                    yield Stdout(payload) if kind == wire.OUT else Stderr(payload)
            self.check()
            result = self._call.result
            assert result is not None
            error = self._call.problem()
            yield ProcessEnd(result.exit_code(), result.number("offset", default=0), error)
        finally:
            await self.close()

    async def write(self, data: bytes) -> None:
        """Writes to the process's input."""
        await self._call.send(data)

    def end_input(self) -> None:
        """Closes the process's input."""
        self._call.end_input()

    async def close(self) -> None:
        """Detaches from the process."""
        if not self._call.ended:
            await self._call.abort(0)

    def check(self) -> None:
        """Raises ProcessNotFound if the call ended with it. To be called after the end."""
        if self._call.result is not None:
            problem = self._call.problem()
            if isinstance(problem, errors.ProcessNotFound):
                raise problem


class Processes:
    """Process operations."""

    def __init__(self, box: CallMaker) -> None:
        self._box = box
        self._ending: set[asyncio.Task[None]] = set()

    async def start(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        stdin: bool = False,
        terminal: tuple[int, int] | None = None,
    ) -> ProcessInfo:
        """Starts a process that outlives the call. The last MiB of its output is kept.

        Args:
            command: A string for the shell, or a program and its arguments.
            cwd: Directory to run in.
            env: Variables added to the sandbox's environment.
            stdin: Keep its standard input open.
            terminal: (rows, columns) of a terminal, in place of pipes.
        """
        arguments: dict[str, Any] = {"command": as_command(command), "cwd": cwd, "env": dict(env or {})}
        if terminal is not None:
            arguments["rows"], arguments["columns"] = _size(*terminal)
        call = self._box.call("process.start", stdin=stdin, output_bytes=0, **arguments)
        answer = asyncio.ensure_future(self._box.wait_reply(call))
        try:
            return _info(await asyncio.shield(answer))
        except asyncio.CancelledError:
            ending = asyncio.ensure_future(self._end(answer))  # no caller will know its number
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            raise

    async def _end(self, answer: Awaitable[Reply]) -> None:
        with suppress(errors.SandboxError):
            await self.signal(_info(await answer).pid, signal.SIGKILL)

    async def list_all(self) -> list[ProcessInfo]:
        """Returns the running processes that `start` started, and the last ones that have ended."""
        answer = await self._box.request("process.list")
        return [_info(told) for told in answer.each("processes", _PROCESSES)]

    def attach(self, pid: int, offset: int = 0) -> Attachment:
        """Follows output from a byte offset; a first Lost event says how many bytes are no longer kept."""
        return Attachment(self._box.call("process.attach", pid=pid, offset=max(0, offset)))

    async def write(self, pid: int, data: bytes, end: bool = False) -> None:
        """Writes to a process's input; `end` closes it. Raises ProcessNotFound."""
        attachment = Attachment(self._box.call("process.attach", pid=pid, offset=1 << 62))
        await attachment.write(data)
        if end:
            attachment.end_input()
        await attachment.close()
        attachment.check()

    async def wait(self, pid: int) -> ProcessEnd:
        """Waits for the end of a process. Raises ProcessNotFound."""
        end = ProcessEnd(None)
        async for event in self.attach(pid, 1 << 62):
            if isinstance(event, ProcessEnd):
                end = event
        return end

    async def signal(self, pid: int, number: int) -> None:
        """Signals a process's group; SIGKILL also ends all that it has started. Raises ProcessNotFound."""
        if not 0 < number < 65:
            raise errors.InvalidRequest(f"signal: must be from 1 to 64, not {number}")
        await self._box.request("process.signal", pid=pid, signal=number)

    async def resize(self, pid: int, rows: int, columns: int) -> None:
        """Sets the size of a process's terminal. Raises ProcessNotFound, InvalidRequest for a process without
        a terminal."""
        size = _size(rows, columns)
        await self._box.request("process.resize", pid=pid, rows=size[0], columns=size[1])


def _size(rows: int, columns: int) -> tuple[int, int]:
    if not (0 < rows < 65_536 and 0 < columns < 65_536):
        raise errors.InvalidRequest(
            f"terminal: rows and columns must be from 1 to 65535, not {rows}, {columns}"
        )
    return rows, columns


def _info(told: Reply) -> ProcessInfo:
    return ProcessInfo(
        told.number("pid", low=1, high=_PIDS),
        told.texts("command"),
        told.flag("tty"),
        told.exit_code(),
        told.seconds("started"),
        told.number("output_start"),
        told.number("output_end"),
    )


def as_command(command: str | Sequence[str]) -> list[str]:
    """Returns the arguments of a command; a string is run by bash. Raises InvalidRequest."""
    if isinstance(command, str):
        return ["/bin/bash", "-c", command]
    if not command:
        raise errors.InvalidRequest("command: must not be empty")
    return list(command)
