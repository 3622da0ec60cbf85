"""A live sandbox, for callers: everything an agent can do, over its channel, whatever backend made it."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from portico.sandbox import egress, errors, mime, sources
from portico.sandbox.channel import Call, Channel, Deadline, failure
from portico.sandbox.connection import Connection
from portico.sandbox.events import (
    CellEnd,
    CellError,
    CellEvent,
    CellResult,
    Metrics,
    ProcessEnd,
    ProcessEvent,
    Rich,
    ShellResult,
    Stderr,
    Stdout,
)  # fmt: skip
from portico.sandbox.files import Files
from portico.sandbox.inside import wire
from portico.sandbox.processes import Processes, as_command
from portico.sandbox.spec import Spec

_MAX_CONNECTIONS: Final = 128  # to ports, of one sandbox: each has descriptors, and buffers on both sides


class Box:
    """One sandbox. Backends subclass it for what the wall's other side has to do: pause, measure, destroy."""

    def __init__(self, sandbox_id: str, spec: Spec) -> None:
        self.id = sandbox_id
        self.spec = spec
        self.begun = time.monotonic()  # its time to live counts from here
        self.channel = Channel(self._on_lost)
        self.files = Files(self)
        self.processes = Processes(self)
        self.paused = False
        self.gone: errors.SandboxGone | None = None
        self.last_used = time.monotonic()
        self._kernel = asyncio.Lock()
        self._checkpoints: list[str] = []
        self._kills = 0
        self._connections: list[Call] = []  # to ports, and those that have ended since the last

    def call(self, op: str, **arguments: Any) -> Call:
        """Opens a call to the agent. Raises SandboxGone, SandboxPaused."""
        self.last_used = time.monotonic()
        if self.gone is not None:
            raise self.gone
        if self.paused:
            raise errors.SandboxPaused(f"sandbox {self.id} is paused")
        return self.channel.call(op, **arguments)

    @property
    def busy(self) -> bool:
        """True while a call is open; a paused sandbox is not busy."""
        return not self.paused and self.channel.open_calls > 0

    async def begin(self, env: Mapping[str, str], rlimits: Mapping[str, int] | None = None) -> None:
        """Opens the network that is allowed, and starts; returns when the agent serves."""
        told = dict(env)
        if self.spec.network.allow_hosts:
            self.channel.on_connect = egress.Egress(self.spec.network).serve
            await self.call("proxy").answer()
            told = {**egress.ENVIRONMENT, **env}
        self._confirm(await self.start(told, rlimits).answer())

    def _confirm(self, answer: dict[str, Any]) -> None:
        """No code has been run yet. Raises BackendUnavailable for a mount that is not what was opened."""
        sources.confirm(self.spec.mounts, answer)

    def start(self, env: Mapping[str, str], rlimits: Mapping[str, int] | None = None) -> Call:
        """Tells the environment of what will run inside, and limits of each process by their names in
        `resource`; a kernel starts. Calls are served in order, so nobody need await the answer."""
        roots = [mount.target for mount in self.spec.mounts]
        return self.call("start", env=dict(env), kernel=True, roots=roots, rlimits=dict(rlimits or {}))

    async def stream_cell(self, code: str, timeout: float | None = None) -> AsyncGenerator[CellEvent, None]:
        """Runs a cell. The last event is always CellEnd, which also tells failures; nothing is raised for
        them but SandboxPaused and SandboxGone before the start. Cells of one sandbox run one after the
        other."""
        async with aclosing(self.cell_batches(code, timeout)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def cell_batches(
        self, code: str, timeout: float | None = None
    ) -> AsyncGenerator[list[CellEvent], None]:
        """The same, with the events together that are there at the same moment."""
        seconds = self._seconds(timeout)
        async with self._kernel:
            if len(code) > wire.MAX_FRAME // 8:
                raise errors.InvalidRequest("code: too long")
            call = self.call("cell", code=code, output_bytes=self.spec.limits.output_bytes)
            expired = Deadline(call, seconds)
            events: list[CellEvent] = []
            try:
                while batch := await call.batch():
                    events += [_cell_event(kind, payload) for kind, payload in batch]
                    if not call.finished:
                        yield events
                        events = []
                yield [*events, await self._cell_end(call.result or {}, expired)]
            except errors.SandboxError as error:
                yield [*events, CellEnd(failure=error)]
            except wire.BadFrame as error:
                gone = errors.SandboxGone(f"the sandbox broke the protocol: {error}", "killed")
                self.channel.lost(gone)
                yield [*events, CellEnd(failure=gone)]
            finally:
                self.last_used = time.monotonic()
                expired.stop()
                if not call.ended:
                    await call.abort()

    async def run_cell(self, code: str, timeout: float | None = None) -> CellResult:
        """Runs a cell and collects what it gives; see stream_cell."""
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
                    else:
                        streams[type(event)] += event.data
        return CellResult(bytes(streams[Stdout]), bytes(streams[Stderr]), rich, end)

    async def restart_kernel(self) -> None:
        """Kills the kernel, whatever it does, and starts another. Variables and checkpoints are gone."""
        await self.call("restart").answer()
        self._checkpoints.clear()

    async def reset(self) -> None:
        """Ends everything that runs inside, also what a command left in the background, and starts a new
        kernel. Files stay. The way back when LimitExceeded("pids") says that nothing more can be started."""
        await self.call("reset").answer()
        self._checkpoints.clear()

    async def stream_shell(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> AsyncGenerator[ProcessEvent, None]:
        """Runs a shell command, or a program with arguments. The last event is ProcessEnd, which tells
        failures.
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
        expired = Deadline(call, seconds, grace=0)
        feeding = asyncio.ensure_future(_feed(call, stdin)) if stdin else None
        try:
            async for kind, payload in call.frames():
                if kind != wire.EVENT:
                    yield Stdout(payload) if kind == wire.OUT else Stderr(payload)
            result = call.result or {}
            error: errors.SandboxError | None = None
            if expired.passed:
                error = errors.SandboxTimeout(seconds)
            elif "error" in result:
                error = failure(result["error"])
            yield ProcessEnd(
                result.get("exit_code"), int(result.get("offset") or 0), await self._explain(error, result)
            )
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
        """Opens a connection to a TCP port that something inside listens on. Raises PortRefused, and
        LimitExceeded("connections") when too many are open."""
        if not 0 < port < 65_536:
            raise errors.InvalidRequest(f"port: {port}")
        self._connections = [call for call in self._connections if not call.ended]
        if len(self._connections) >= _MAX_CONNECTIONS:
            raise errors.LimitExceeded(f"more than {_MAX_CONNECTIONS} connections to ports", "connections")
        call = self.call("connect", port=port)
        self._connections.append(call)
        return await Connection.open(call)

    async def keep(self, take: Callable[[bytes], Awaitable[None]], checkpoint: str = "") -> bool:
        """Hands the files below /workspace to `take` as a tar stream, as they are at one moment, and then
        keeps the kernel as a checkpoint, if one is named; says whether that could be done. Waits for the cell
        that runs. Raises SandboxTimeout."""
        async with self._kernel:
            async with aclosing(self.files.pack(still=True)) as pieces:
                async for piece in pieces:
                    await take(piece)
            try:
                if checkpoint:
                    await self._checkpoint(checkpoint)
            except (errors.InvalidRequest, errors.Unsupported):
                return False  # there are as many checkpoints as a kernel can keep, or none can be made
        return bool(checkpoint)

    async def restore(self, pieces: AsyncIterable[bytes], checkpoint: str = "") -> bool:
        """Replaces the files below /workspace by those of a tar stream that `keep` gave, of this sandbox or
        another, and takes the kernel back to a checkpoint, if one is named and still kept; else a new kernel
        starts, because the old one's names belong to other files. Says whether the kernel came back. Raises
        SandboxTimeout."""
        async with self._kernel:
            await self.files.unpack(pieces, clear=True, exact=True, still=True)
            if checkpoint:
                try:
                    await self._rollback(checkpoint)
                    return True
                except (errors.SnapshotNotFound, errors.KernelDied, errors.SandboxTimeout):
                    pass  # the kernel that kept it has died
            await self.restart_kernel()
        return False

    async def checkpoint(self, name: str) -> None:
        """Keeps the kernel as it is now: variables, imports, open files; not threads, and no files' content.
        Raises InvalidRequest when there are too many, KernelDied, SandboxTimeout."""
        async with self._kernel:
            await self._checkpoint(name)

    async def _checkpoint(self, name: str) -> None:
        answer = await self._ask("checkpoint", name)
        if "checkpoints" not in answer:
            raise errors.InvalidRequest(str(answer.get("error")))
        self._checkpoints = [str(known) for known in answer["checkpoints"]]

    async def rollback(self, name: str) -> None:
        """Takes the kernel back to a checkpoint; later ones are gone, this one stays. Raises
        SnapshotNotFound, SandboxTimeout.
        """
        async with self._kernel:
            await self._rollback(name)

    async def _rollback(self, name: str) -> None:
        answer = await self._ask("rollback", name)
        if "checkpoints" not in answer:
            raise errors.SnapshotNotFound(str(answer.get("error")))
        self._checkpoints = [str(known) for known in answer["checkpoints"]]

    async def _ask(self, op: str, name: str) -> dict[str, Any]:
        """The kernel's answer. One that gives none in time is killed. Raises SandboxTimeout, KernelDied."""
        call = self.call(op, id=name)
        expired = Deadline(call, self.spec.limits.call_seconds)
        try:
            return await call.answer()
        except errors.SandboxError:
            if expired.passed:
                raise errors.SandboxTimeout(expired.seconds, kernel_lost=True) from None
            raise
        finally:
            expired.stop()
            if not call.ended:
                await call.abort()

    async def metrics(self) -> Metrics:
        disk = await self.call("disk").answer()
        memory, cpu = await self.usage()
        return Metrics(memory, cpu, int(disk["processes"]), int(disk["disk_bytes"]), int(disk["inodes"]))

    async def usage(self) -> tuple[int | None, float | None]:
        """Memory in bytes and CPU in seconds, where the backend can tell."""
        return None, None

    async def pause(self) -> None:
        """Stops everything inside. Calls raise SandboxPaused until it is resumed."""
        raise errors.Unsupported("this backend cannot pause")

    async def resume(self) -> None:
        raise errors.Unsupported("this backend cannot pause")

    async def destroy(self, cause: str = "destroyed") -> None:
        """Ends everything inside and removes all of it. Doing it twice is no error."""
        raise errors.Unsupported("this backend cannot destroy")

    async def memory_kills(self) -> int | None:
        """How often the memory limit has killed something inside, where the backend can tell."""
        return None

    def _on_lost(self) -> None:
        """The stream to the agent has ended; a backend cleans up after it."""

    def _seconds(self, timeout: float | None) -> float:
        limit = self.spec.limits.call_seconds
        return limit if timeout is None else min(timeout, limit)

    async def _cell_end(self, result: dict[str, Any], expired: Deadline) -> CellEnd:
        told = result.get("error")
        count = result.get("count")
        number = count if isinstance(count, int) else 0
        if "kind" in told if isinstance(told, dict) else False:
            assert isinstance(told, dict)
            problem = failure(told)
            if expired.passed:
                problem = errors.SandboxTimeout(expired.seconds, kernel_lost=True)
            elif isinstance(problem, errors.KernelDied) and await self._memory_killed():
                problem = errors.LimitExceeded(
                    "the kernel was killed: out of memory", "memory", kernel_lost=True
                )
            if not isinstance(problem, errors.InvalidRequest):
                self._checkpoints.clear()
            return CellEnd(number, failure=problem)
        error = None
        if isinstance(told, dict):
            error = CellError(
                str(told.get("name")),
                str(told.get("message")),
                str(told.get("traceback")),
                told.get("limit") if isinstance(told.get("limit"), str) else None,
            )
        if expired.passed:
            return CellEnd(number, error, errors.SandboxTimeout(expired.seconds))
        if result.get("limit") == "output":
            return CellEnd(number, error, errors.LimitExceeded("too much output", "output"))
        return CellEnd(number, error)

    async def _explain(
        self, error: errors.SandboxError | None, result: dict[str, Any]
    ) -> errors.SandboxError | None:
        if error is None and result.get("exit_code") in (-9, 137) and await self._memory_killed():
            return errors.LimitExceeded("killed: out of memory", "memory")
        return error

    async def _memory_killed(self) -> bool:
        """Whether that has happened since it was last asked."""
        kills = await self.memory_kills()
        known, self._kills = self._kills, kills or 0
        return kills is not None and kills > known


def _cell_event(kind: int, payload: bytes) -> CellEvent:
    if kind == wire.EVENT:
        return mime.rich(payload)
    return Stdout(payload) if kind == wire.OUT else Stderr(payload)


async def _feed(call: Call, data: bytes) -> None:
    await call.send(data)
    call.end_input()
