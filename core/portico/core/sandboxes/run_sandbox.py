"""A run's access to the sandboxes of its session, and their clean-up when the run ends."""

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from portico.core.errors import DomainError, LimitExceeded
from portico.core.sandboxes.core_sandboxes import CoreSandboxes
from portico.sandbox import errors, tools
from portico.sandbox.events import (
    CellEvent,
    CellResult,
    Entry,
    Found,
    ProcessEvent,
    ProcessInfo,
    ShellResult,
)
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.manager.registry import ManagedSandbox
from portico.sandbox.spec import SECONDS, Spec
from portico.sandbox.tool_results import Result
from portico.telemetry.tracing import spans

T = TypeVar("T")


class SandboxesOfRun:
    """The sandboxes of one run, by type. Owned by its execution."""

    def __init__(
        self,
        sandboxes: CoreSandboxes,
        user_id: str,
        session_id: str,
        seconds_left: Callable[[], float | None],
    ) -> None:
        """Create it; `seconds_left` limits the lifetime of sandboxes to that of the run."""
        self._sandboxes = sandboxes
        self._session = (user_id, session_id)
        self._seconds_left = seconds_left
        self._used: dict[str, RunSandbox] = {}
        self._closed = False

    def __call__(self, kind: str) -> "RunSandbox":
        if kind not in self._used:
            self._used[kind] = RunSandbox(self._sandboxes, *self._session, kind, self._seconds_left)
            self._used[kind].closed = self._closed
        return self._used[kind]

    def cancel(self) -> None:
        """Cancel the run's calls, also those of threads, which cannot be cancelled."""
        self._closed = True
        for sandbox in self._used.values():
            sandbox.cancel()

    async def end(self) -> None:
        """Cancel the run's calls; return when none of its calls and processes is left."""
        self.cancel()
        await asyncio.gather(*(sandbox.end() for sandbox in self._used.values()))


class RunSandbox:
    """SandboxAccess of one run: implements the methods of `context.sandbox(type)`."""

    closed = False

    def __init__(
        self,
        sandboxes: CoreSandboxes,
        user_id: str,
        session_id: str,
        kind: str,
        seconds_left: Callable[[], float | None],
    ) -> None:
        self._sandboxes = sandboxes
        self._user_id = user_id
        self._session_id = session_id
        self._kind = kind
        self._seconds_left = seconds_left
        self._box: SandboxHandle | None = None
        self._working: set[asyncio.Task[Any]] = set()
        self._streams: set[AsyncGenerator[Any, None]] = set()
        self._starting: set[asyncio.Task[ProcessInfo]] = set()
        self._started: list[tuple[SandboxHandle, int]] = []

    def cancel(self) -> None:
        """Cancel the calls and refuse new ones."""
        self.closed = True
        # The execution cancels the agent's own task, unless the agent may emit final output.
        for task in self._working:
            task.cancel()

    async def end(self) -> None:
        """Return when the calls have ended and the processes that the run started are killed."""
        await asyncio.gather(*self._working, *self._starting, return_exceptions=True)
        for stream in tuple(self._streams):
            with suppress(RuntimeError):  # a reader is inside the generator at present
                await stream.aclose()
        for box, pid in self._started:
            with suppress(errors.SandboxError):
                await box.processes.signal(pid, signal.SIGKILL)
                await box.processes.wait(pid)

    async def sandbox_id(self) -> str:
        return (await self._own()).id

    async def run_cell(self, code: str, *, timeout: float | None = None) -> CellResult:
        box = await self._own()
        return await self._work(box.run_cell(code, timeout), "run_cell")

    def stream_cell(
        self, code: str, *, timeout: float | None = None, allow_input: bool = False
    ) -> AsyncGenerator[CellEvent, None]:
        async def events() -> AsyncGenerator[CellEvent, None]:
            box = await self._own()
            async with aclosing(box.stream_cell(code, timeout, allow_input=allow_input)) as stream:
                async for event in stream:
                    yield event

        return self._stream(events(), "stream_cell")

    async def run_shell(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> ShellResult:
        box = await self._own()
        return await self._work(
            box.run_shell(command, cwd=cwd, env=env, stdin=stdin, timeout=timeout), "run_shell"
        )

    def stream_shell(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> AsyncGenerator[ProcessEvent, None]:
        async def events() -> AsyncGenerator[ProcessEvent, None]:
            box = await self._own()
            stream = box.stream_shell(command, cwd=cwd, env=env, stdin=stdin, timeout=timeout)
            async with aclosing(stream):
                async for event in stream:
                    yield event

        return self._stream(events(), "stream_shell")

    async def start_process(
        self, command: str | Sequence[str], *, cwd: str = "", env: Mapping[str, str] | None = None
    ) -> ProcessInfo:
        box = await self._own()

        async def start() -> ProcessInfo:
            info = await box.processes.start(command, cwd=cwd, env=env)
            self._started.append((box, info.pid))
            return info

        # Shielded: a process that has started must be recorded, so that `end` kills it.
        starting = asyncio.create_task(start())
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        return await asyncio.shield(starting)

    def watch_process(self, pid: int, *, offset: int = 0) -> AsyncGenerator[ProcessEvent, None]:
        async def events() -> AsyncGenerator[ProcessEvent, None]:
            box = await self._own()
            async with aclosing(aiter(box.processes.attach(pid, offset))) as stream:
                async for event in stream:
                    yield event

        return self._stream(events(), "watch_process")

    async def signal_process(self, pid: int, number: int) -> None:
        await (await self._own()).processes.signal(pid, number)

    async def run_ipython_cell(self, code: str) -> Result:
        return await self.call_tool("run_ipython_cell", {"code": code})

    async def run_shell_command(self, command: str) -> Result:
        return await self.call_tool("run_shell_command", {"command": command})

    async def list_tools(self) -> dict[str, Any]:
        return tools.list_tools(self._kind)

    async def call_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> Result:
        box = await self._own()
        return await self._work(tools.call_tool(box, name, dict(arguments or {})), name)

    async def read_file(self, path: str) -> bytes:
        box = await self._own()
        return await self._work(box.files.read(path), "read_file")

    async def write_file(self, path: str, content: bytes | str) -> int:
        box = await self._own()
        return await self._work(box.files.write(path, content), "write_file")

    def download(self, path: str) -> AsyncGenerator[bytes, None]:
        async def pieces() -> AsyncGenerator[bytes, None]:
            box = await self._own()
            async with aclosing(box.files.download(path)) as stream:
                async for piece in stream:
                    yield piece

        return self._stream(pieces(), "download")

    async def upload(self, path: str, pieces: AsyncIterable[bytes]) -> int:
        box = await self._own()
        return await self._work(box.files.upload(path, pieces), "upload")

    async def list_directory(self, path: str = ".", *, depth: int = 1) -> Sequence[Entry]:
        return await (await self._own()).files.list_directory(path, depth)

    async def search_files(
        self, path: str = ".", pattern: str = "*", *, text: str | None = None
    ) -> Sequence[Found]:
        box = await self._own()
        return await self._work(box.files.search(path, pattern, text=text), "search_files")

    async def make_directory(self, path: str) -> None:
        await (await self._own()).files.make_directory(path)

    async def move_file(self, source: str, destination: str, *, overwrite: bool = False) -> None:
        await (await self._own()).files.move(source, destination, overwrite)

    async def remove_file(self, path: str, *, recursive: bool = False) -> None:
        box = await self._own()
        await self._work(box.files.remove(path, recursive), "remove_file")

    async def _own(self) -> SandboxHandle:
        if self.closed:
            raise errors.CallCancelled("the run was stopped")
        if self._box is None or self._box.gone is not None:
            seconds = self._seconds_left()
            if seconds is not None and seconds < SECONDS[0]:
                raise errors.CallCancelled("the run's time limit is reached")
            spec = Spec(type=self._kind, limits=self._sandboxes.policy.defaults(), ttl_seconds=seconds)
            self._box = (await self._made(spec)).handle
            if self.closed:
                raise errors.CallCancelled("the run was stopped")
        return self._box

    async def _made(self, spec: Spec) -> ManagedSandbox:
        try:
            return await self._sandboxes.get_or_create_own(self._user_id, self._session_id, spec)
        except DomainError as error:
            # The agent's interface has the sandbox's errors, not the core's.
            if isinstance(error.__cause__, errors.SandboxError):
                raise error.__cause__ from None
            if isinstance(error, LimitExceeded):
                raise errors.LimitExceeded(error.message, error.metadata["limit"]) from None
            raise errors.InvalidRequest(error.message) from None

    async def _work(self, work: Coroutine[Any, Any, T], tool: str) -> T:
        with spans.in_span(*self._span(tool)):
            return await self._cancellable(work)

    def _span(self, tool: str) -> tuple[str, spans.Attributes]:
        return f"execute_tool {tool}", {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool,
            "gen_ai.tool.type": "extension",
            "portico.sandbox.type": self._kind,
            "portico.sandbox.id": "" if self._box is None else self._box.id,
        }

    async def _cancellable(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it as a task that `cancel` cancels, in whatever task or thread its caller waits."""
        task = asyncio.create_task(work)
        self._working.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and not caller.cancelling():
                raise errors.CallCancelled("the run is being stopped") from None
            task.cancel()
            await asyncio.wait({task})
            raise
        finally:
            self._working.discard(task)

    async def _stream(self, events: AsyncGenerator[T, None], tool: str) -> AsyncGenerator[T, None]:
        self._streams.add(events)
        span = spans.begin(*self._span(tool))
        error = ""

        async def step() -> T:
            return await anext(events)

        try:
            while True:
                try:
                    event = await self._cancellable(step())
                except StopAsyncIteration:
                    return
                yield event
        except Exception as raised:
            error = type(raised).__name__
            raise
        finally:
            spans.end(span, error)
            self._streams.discard(events)
            await events.aclose()
