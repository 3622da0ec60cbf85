"""The sandbox handle: all operations on a sandbox, sent to its supervisor over the channel. Independent of
the backend."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from portico.sandbox import errors, mount_sources
from portico.sandbox.events import (
    CellEnd,
    CellEvent,
    CellInput,
    CellResult,
    Metrics,
    ProcessEnd,
    ProcessEvent,
    Rich,
    ShellResult,
    Stderr,
    Stdout,
)  # fmt: skip
from portico.sandbox.handle.call import Call
from portico.sandbox.handle.cell_events import read_count, read_end, read_event
from portico.sandbox.handle.channel import REQUEST_BYTES, Channel
from portico.sandbox.handle.deadlines import Deadline
from portico.sandbox.handle.files import Files
from portico.sandbox.handle.kernel_state import KernelState
from portico.sandbox.handle.pausing import Pausable
from portico.sandbox.handle.port_connection import Connection
from portico.sandbox.handle.processes import Processes, as_command
from portico.sandbox.handle.replies import Reply
from portico.sandbox.inside import wire
from portico.sandbox.spec import NetworkPolicy, Spec

_MAX_CONNECTIONS: Final = 128  # to ports of one sandbox: each has descriptors, and buffers on both sides
_REQUEST_SHARE: Final = 16  # divisor of the memory limit: the supervisor holds a request several times


class SandboxHandle(Pausable):
    """A handle of one sandbox. Backends subclass it to pause, measure and destroy the sandbox."""

    def __init__(self, sandbox_id: str, spec: Spec) -> None:
        super().__init__()
        self.id = sandbox_id
        self.spec = spec
        self.begun = time.monotonic()  # start of its time to live
        self.channel = Channel(self._lost_channel, paused=lambda: self.paused, longest=self._longest_request)
        self.files = Files(self)
        self.processes = Processes(self)
        self.gone: errors.SandboxGone | None = None
        self._kernel = asyncio.Lock()  # held while a cell runs
        self._kept = KernelState(self, self._kernel)
        self._kills = 0
        self._connections: list[Call] = []  # to ports; ended ones are removed at the next connect

    def call(self, op: str, **arguments: Any) -> Call:
        """Sends a call to the supervisor. Raises SandboxGone, SandboxPaused."""
        self.last_used = time.monotonic()
        if self.gone is not None:
            raise self.gone
        if self.asleep:
            self._turn(False)  # calls wait until it runs again
        if self.paused:
            raise errors.SandboxPaused(f"sandbox {self.id} is paused; resume it first")
        return self.channel.call(op, **arguments)

    async def request(self, op: str, **arguments: Any) -> Reply:
        """Makes a call and returns its result. Raises SandboxTimeout after `call_seconds` of the limits, and
        the error that the supervisor reports.
        """
        return await self.wait_reply(self.call(op, **arguments))

    async def wait_reply(self, call: Call) -> Reply:
        """Waits for the result of an open call; raises as `request`."""
        deadline = Deadline(call, self.spec.limits.call_seconds, grace=0)
        try:
            return await call.answer()
        finally:
            deadline.stop()
            if not call.ended:
                await call.abort(0)

    @property
    def busy(self) -> bool:
        """True while a call is open; a paused sandbox is not busy."""
        return not self.paused and self.channel.open_calls > 0

    async def initialize(self, env: Mapping[str, str], rlimits: Mapping[str, int] | None = None) -> None:
        """Connects the egress proxy, if hosts are allowed, and starts the kernel; returns when the supervisor
        serves calls."""
        if self.spec.network.allow_hosts:
            self.channel.on_connect = await asyncio.to_thread(_proxy, self.spec.network)
            await self.request("proxy")
        self._confirm(await self.wait_reply(self.start(env, rlimits)))

    def _confirm(self, answer: Reply) -> None:
        """Checks, before any code runs, that each mount is the directory that was verified. Raises
        BackendUnavailable for a mount of another inode."""
        mount_sources.confirm(self.spec.mounts, answer)

    def start(self, env: Mapping[str, str], rlimits: Mapping[str, int] | None = None) -> Call:
        """Sends the environment, the mounts and the resource limits of each process (by their names in
        `resource`), and starts a kernel. Calls are served in order, so the answer need not be awaited."""
        roots = [mount.target for mount in self.spec.mounts]
        return self.call("start", env=dict(env), kernel=True, roots=roots, rlimits=dict(rlimits or {}))

    async def stream_cell(
        self, code: str, timeout: float | None = None, *, allow_input: bool = False
    ) -> AsyncGenerator[CellEvent, None]:
        """Runs a cell and yields its events; the last is always CellEnd, which also carries failures.

        Cells of one sandbox run one after the other.

        Args:
            code: Python source, with IPython's magics.
            timeout: Seconds; None for the limit of the spec, which also caps it.
            allow_input: Yield CellInput events, which the caller answers; otherwise input() fails.

        Raises:
            SandboxPaused, SandboxGone: only before the cell starts.
            InvalidRequest: The timeout is not positive, or the code is too long.
        """
        async with aclosing(self.cell_batches(code, timeout, allow_input=allow_input)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def cell_batches(
        self, code: str, timeout: float | None = None, *, allow_input: bool = False
    ) -> AsyncGenerator[list[CellEvent], None]:
        """Runs a cell as `stream_cell`; yields events in lists, as many as have arrived together."""
        seconds = self._seconds(timeout)
        async with self._kernel:
            most = self.spec.limits.output_bytes
            options = {"input": True} if allow_input else {}
            call = self.call("cell", code=code, output_bytes=most, **options)
            call.output_limit = most
            expired = Deadline(call, seconds)
            events: list[CellEvent] = []
            try:
                while batch := await call.batch():
                    events += [read_event(call, kind, payload, allow_input) for kind, payload in batch]
                    if not call.finished:
                        yield events
                        events = []
                yield [*events, await self._cell_end(call, expired)]
            except errors.SandboxError as error:
                yield [*events, CellEnd(failure=error)]
            finally:
                self.last_used = time.monotonic()
                expired.stop()
                if not call.ended:
                    await call.abort()

    async def run_cell(self, code: str, timeout: float | None = None) -> CellResult:
        """Runs a cell and collects its output; see stream_cell."""
        streams: dict[type, bytearray] = {Stdout: bytearray(), Stderr: bytearray()}
        rich: list[Rich] = []
        end = CellEnd()
        async with aclosing(self.cell_batches(code, timeout)) as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, Rich):
                        rich.append(event)
                    elif isinstance(event, CellEnd):
                        end = event
                    elif not isinstance(event, CellInput):
                        streams[type(event)] += event.data
        return CellResult(bytes(streams[Stdout]), bytes(streams[Stderr]), rich, end)

    async def restart_kernel(self) -> None:
        """Kills the kernel and starts a new one. Variables and checkpoints are lost."""
        await self.request("restart")

    async def reset(self) -> None:
        """Ends all processes inside, also background processes, and starts a new kernel. Files stay. Use it
        after LimitExceeded("pids"), when no process can be started."""
        await self.request("reset")

    async def stream_shell(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> AsyncGenerator[ProcessEvent, None]:
        """Runs a shell command (a string), or a program with arguments (a sequence). The last event is
        ProcessEnd, which also carries failures.

        Args:
            command: A string for the shell, or a program and its arguments.
            cwd: Directory to run in, absolute or relative to /workspace.
            env: Variables added to the sandbox's environment.
            stdin: Bytes of its standard input.
            timeout: Seconds; None for the limit of the spec, which also caps it.
        """
        seconds = self._seconds(timeout)
        call = self.call(
            "run",
            command=as_command(command),
            cwd=cwd,
            env=dict(env or {}),
            stdin=bool(stdin),
            output_bytes=self.spec.limits.output_bytes,
        )
        call.output_limit = self.spec.limits.output_bytes
        expired = Deadline(call, seconds, grace=0)
        feeding = asyncio.ensure_future(_feed(call, stdin)) if stdin else None
        try:
            async for kind, payload in call.frames():
                if kind in (wire.OUT, wire.ERR):
                    yield Stdout(payload) if kind == wire.OUT else Stderr(payload)
            error = errors.SandboxTimeout(seconds) if expired.passed else call.problem()
            assert call.result is not None
            code = call.result.exit_code()
            if error is None and code in (-9, 137) and await self._memory_killed():
                error = errors.LimitExceeded("killed: out of memory", "memory")
            yield ProcessEnd(code, call.result.number("offset", default=0), error)
        except errors.SandboxGone as error:
            yield ProcessEnd(None, failure=error)
        finally:
            self.last_used = time.monotonic()
            expired.stop()
            if feeding:
                feeding.cancel()
            if not call.ended:
                await call.abort(0)

    async def run_shell(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> ShellResult:
        """Runs a command and collects its output; see stream_shell."""
        out, err = bytearray(), bytearray()
        end = ProcessEnd(None)
        async with aclosing(
            self.stream_shell(command, cwd=cwd, env=env, stdin=stdin, timeout=timeout)
        ) as events:
            async for event in events:
                if isinstance(event, ProcessEnd):
                    end = event
                elif isinstance(event, Stdout):
                    out += event.data
                elif isinstance(event, Stderr):
                    err += event.data
        return ShellResult(bytes(out), bytes(err), end.exit_code, end.failure)

    async def connect(self, port: int) -> Connection:
        """Connects to a TCP port that a process inside listens on. Raises PortRefused, and
        LimitExceeded("connections") when too many connections are open."""
        if not 0 < port < 65_536:
            raise errors.InvalidRequest(f"port: must be from 1 to 65535, not {port}")
        self._connections = [call for call in self._connections if not call.ended]
        if len(self._connections) >= _MAX_CONNECTIONS:
            raise errors.LimitExceeded(
                f"{_MAX_CONNECTIONS} connections to ports are open; close some first", "connections"
            )
        call = self.call("connect", port=port)
        self._connections.append(call)
        deadline = Deadline(call, self.spec.limits.call_seconds, grace=0)
        try:
            return await Connection.open(call)
        finally:
            deadline.stop()

    async def save_kernel(self, take: Callable[[bytes], Awaitable[None]], checkpoint: str = "") -> bool:
        """Passes the files below /workspace to `take` as a tar stream, frozen at one moment, then keeps the
        kernel as a checkpoint, if one is named. Waits for a running cell.

        Returns:
            True if the checkpoint was made.

        Raises:
            SandboxTimeout.
        """
        return await self._kept.keep(take, checkpoint)

    async def restore(self, pieces: AsyncIterable[bytes], checkpoint: str = "") -> bool:
        """Replaces the files below /workspace by those of a tar stream that `keep` made, of this or another
        sandbox. Restores the kernel from a checkpoint, if one is named and still exists; otherwise starts a
        new kernel, because the variables of the old one refer to the replaced files.

        Returns:
            True if the kernel was restored.

        Raises:
            SandboxTimeout.
        """
        return await self._kept.restore(pieces, checkpoint)

    async def checkpoint(self, name: str) -> None:
        """Keeps the kernel's state: variables, imports and open files, but neither threads nor the content of
        files. Raises InvalidRequest when there are too many checkpoints, KernelDied, SandboxTimeout."""
        await self._kept.checkpoint(name)

    async def rollback(self, name: str) -> None:
        """Restores the kernel from a checkpoint. Later checkpoints are lost, this one stays. Raises
        SnapshotNotFound, SandboxTimeout.
        """
        await self._kept.roll_back(name)

    def require(self, ability: str) -> None:
        """Raises Unsupported if the backend lacks an ability: "checkpoints" or "pause"."""

    async def metrics(self) -> Metrics:
        """Returns what the sandbox uses now."""
        disk = await self.request("disk")
        processes = disk.number("processes", high=1 << 22)
        memory, cpu = await self.usage()
        return Metrics(memory, cpu, processes, disk.number("disk_bytes"), disk.number("inodes"))

    async def usage(self) -> tuple[int | None, float | None]:
        """Returns memory in bytes and CPU time in seconds; None for what the backend cannot measure."""
        return None, None

    async def destroy(self, cause: str = "destroyed") -> None:
        """Ends all processes inside and removes the sandbox's files. May be called twice."""
        raise errors.Unsupported("this backend cannot end sandboxes")

    async def memory_kills(self) -> int | None:
        """Returns how many processes the memory limit has killed; None if the backend cannot tell."""
        return None

    def _lost_channel(self, error: errors.SandboxError) -> None:
        if self.gone is None and isinstance(error, errors.SandboxGone) and error.cause == "protocol":
            self.gone = error
        self._on_lost()

    def _on_lost(self) -> None:
        """Called when the connection to the supervisor has ended; a backend cleans up."""

    def _longest_request(self) -> int:
        return min(REQUEST_BYTES, self.spec.limits.memory_bytes // _REQUEST_SHARE)

    def _seconds(self, timeout: float | None) -> float:
        """Returns the timeout to use. Raises InvalidRequest."""
        limit = self.spec.limits.call_seconds
        if timeout is not None and not timeout > 0:  # NaN fails too
            raise errors.InvalidRequest("timeout: must be more than 0 seconds")
        return limit if timeout is None else min(timeout, limit)

    async def _cell_end(self, call: Call, expired: Deadline) -> CellEnd:
        assert call.result is not None
        problem = call.problem()
        if problem is None:
            return read_end(call.result, errors.SandboxTimeout(expired.seconds) if expired.passed else None)
        if expired.passed:
            problem = errors.SandboxTimeout(expired.seconds, kernel_lost=True)
        elif isinstance(problem, errors.KernelDied) and await self._memory_killed():
            problem = errors.LimitExceeded("the kernel was killed: out of memory", "memory", kernel_lost=True)
        return CellEnd(read_count(call.result), failure=problem)

    async def _memory_killed(self) -> bool:
        """Whether the memory limit has killed a process since the last call of this method."""
        kills = await self.memory_kills()
        known, self._kills = self._kills, kills or 0
        return kills is not None and kills > known


async def _feed(call: Call, data: bytes) -> None:
    await call.send(data)
    call.end_input()


def _proxy(policy: NetworkPolicy) -> Callable[[Call], Awaitable[None]]:
    """Returns the proxy for the allowed hosts. Blocks, because it imports the protocol parsers, which a
    sandbox without a network does not need."""
    from portico.sandbox.egress.proxy import Egress

    return Egress(policy).serve
