"""Sandboxes for direct use in a program, without a server: asynchronous classes, and synchronous ones that
run them on an event loop in a thread.
"""

import asyncio
import threading
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any, ClassVar, TypeVar

from portico.sandbox import tools
from portico.sandbox.backend import Backend
from portico.sandbox.errors import SandboxNotFound
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.local.backend import LocalBackend
from portico.sandbox.spec import Spec
from portico.sandbox.tool_results import Result

T = TypeVar("T")


class BaseSandboxAsync:
    """A sandbox of the caller's process: `async with BaseSandboxAsync() as box`. Without a backend, it opens
    a local one and closes it at the end."""

    type: ClassVar[str] = "base"

    def __init__(self, spec: Spec | None = None, *, backend: Backend | None = None) -> None:
        self._spec = spec or Spec(type=self.type)
        self._backend: Backend = backend or LocalBackend()
        self._own_backend = backend is None
        self._box: SandboxHandle | None = None

    @property
    def box(self) -> SandboxHandle:
        """The sandbox handle, with all operations: streams, processes, files. Raises SandboxNotFound before
        `start`.
        """
        if self._box is None:
            raise SandboxNotFound("the sandbox is not started; use `with`, or start()")
        return self._box

    @property
    def sandbox_id(self) -> str:
        """The sandbox's id. Raises SandboxNotFound before `start`."""
        return self.box.id

    async def start(self) -> None:
        """Creates the sandbox. Raises BackendUnavailable, InvalidRequest."""
        if self._box is not None:
            return
        if self._own_backend:
            await self._backend.open()
        try:
            self._box = await self._backend.create(self._spec)
        except BaseException:
            if self._own_backend:
                await self._backend.close()
            raise

    async def close(self) -> None:
        """Ends the sandbox, and its own backend. May be called twice."""
        box, self._box = self._box, None
        try:
            if box is not None:
                await box.destroy()
        finally:
            if self._own_backend:
                await self._backend.close()

    async def __aenter__(self) -> "BaseSandboxAsync":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def list_tools(self, tool_type: str | None = None) -> dict[str, Any]:
        """Returns the tools by group, or those of one group."""
        listed = tools.list_tools(self._spec.type)
        return listed if tool_type is None else {tool_type: listed.get(tool_type, {})}

    async def call_tool(self, name: str, arguments: dict[str, Any] | None = None) -> Result:
        """Calls a tool. Raises InvalidRequest for an unknown tool or invalid arguments, and SandboxGone;
        other failures are results with isError.
        """
        return await tools.call_tool(self.box, name, arguments)

    async def run_ipython_cell(self, code: str) -> Result:
        """Runs a cell; variables are kept for the next cells. Raises SandboxGone."""
        return await self.call_tool("run_ipython_cell", {"code": code})

    async def run_shell_command(self, command: str) -> Result:
        """Runs a command by bash in /workspace. Raises SandboxGone."""
        return await self.call_tool("run_shell_command", {"command": command})

    async def get_info(self) -> dict[str, Any]:
        """Returns sandbox_id, sandbox_type, backend and tier (the isolation level)."""
        capabilities = self._backend.capabilities
        return {
            "sandbox_id": self.box.id,
            "sandbox_type": self._spec.type,
            "backend": capabilities.backend,
            "tier": capabilities.tier,
        }


class FilesystemSandboxAsync(BaseSandboxAsync):
    """A sandbox with the tools for files in addition."""

    type: ClassVar[str] = "filesystem"

    async def read_file(self, path: str) -> Result:
        """Returns the content of a file as text."""
        return await self.call_tool("read_file", {"path": path})

    async def read_multiple_files(self, paths: list[str]) -> Result:
        """Returns the contents of several files, with an error text for each file that cannot be read."""
        return await self.call_tool("read_multiple_files", {"paths": paths})

    async def write_file(self, path: str, content: str) -> Result:
        """Creates a file or replaces its content."""
        return await self.call_tool("write_file", {"path": path, "content": content})

    async def edit_file(self, path: str, edits: list[dict[str, str]], dry_run: bool = False) -> Result:
        """Replaces the first occurrence of each oldText by newText; returns a diff. `dry_run` only diffs."""
        return await self.call_tool("edit_file", {"path": path, "edits": edits, "dryRun": dry_run})

    async def create_directory(self, path: str) -> Result:
        """Creates a directory and its parents."""
        return await self.call_tool("create_directory", {"path": path})

    async def list_directory(self, path: str) -> Result:
        """Lists the entries of a directory."""
        return await self.call_tool("list_directory", {"path": path})

    async def directory_tree(self, path: str) -> Result:
        """Returns all entries below a directory, as JSON."""
        return await self.call_tool("directory_tree", {"path": path})

    async def move_file(self, source: str, destination: str) -> Result:
        """Renames a file or directory."""
        return await self.call_tool("move_file", {"source": source, "destination": destination})

    async def search_files(
        self, path: str, pattern: str, exclude_patterns: list[str] | None = None
    ) -> Result:
        """Returns the paths below a directory that match a pattern, or contain it if it has no wildcards."""
        arguments = {"path": path, "pattern": pattern, "excludePatterns": exclude_patterns or []}
        return await self.call_tool("search_files", arguments)

    async def get_file_info(self, path: str) -> Result:
        """Returns size, times and permissions of a file."""
        return await self.call_tool("get_file_info", {"path": path})

    async def list_allowed_directories(self) -> Result:
        """Lists the directories that file tools can access."""
        return await self.call_tool("list_allowed_directories")


class SandboxLoopThread:
    """An event loop in a thread. Zygotes end with the thread that started them, so the thread lives as long
    as the sandbox.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="portico-sandbox", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def run(self, work: Awaitable[T]) -> T:
        """Runs an awaitable on the loop and waits for its result."""

        async def awaited() -> T:
            return await work

        future: Future[T] = asyncio.run_coroutine_threadsafe(awaited(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Stops the loop and waits for the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class BaseSandbox:
    """The synchronous counterpart of BaseSandboxAsync: the same names and results."""

    twin: ClassVar[type[BaseSandboxAsync]] = BaseSandboxAsync

    def __init__(self, spec: Spec | None = None) -> None:
        self._spec = spec
        self._loop: SandboxLoopThread | None = None
        self._sandbox: BaseSandboxAsync | None = None

    def start(self) -> None:
        """Creates the sandbox. Raises BackendUnavailable, InvalidRequest."""
        if self._loop is None:
            loop = SandboxLoopThread()
            try:
                sandbox = self.twin(self._spec)
                loop.run(sandbox.start())
            except BaseException:
                loop.close()
                raise
            self._loop, self._sandbox = loop, sandbox

    def close(self) -> None:
        """Ends the sandbox. May be called twice."""
        loop, sandbox = self._loop, self._sandbox
        self._loop = self._sandbox = None
        if loop is not None and sandbox is not None:
            try:
                loop.run(sandbox.close())
            finally:
                loop.close()

    def __enter__(self) -> "BaseSandbox":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, method: str, /, **arguments: Any) -> Any:
        if self._loop is None or self._sandbox is None:
            raise SandboxNotFound("the sandbox is not started; use `with`, or start()")
        return self._loop.run(getattr(self._sandbox, method)(**arguments))

    @property
    def sandbox_id(self) -> str:
        return str(self._do("get_info")["sandbox_id"])

    def get_info(self) -> dict[str, Any]:
        return dict(self._do("get_info"))

    def list_tools(self, tool_type: str | None = None) -> dict[str, Any]:
        return dict(self._do("list_tools", tool_type=tool_type))

    def call_tool(self, name: str, arguments: dict[str, Any] | None = None) -> Result:
        return dict(self._do("call_tool", name=name, arguments=arguments))

    def run_ipython_cell(self, code: str) -> Result:
        return dict(self._do("run_ipython_cell", code=code))

    def run_shell_command(self, command: str) -> Result:
        return dict(self._do("run_shell_command", command=command))


class FilesystemSandbox(BaseSandbox):
    """The synchronous counterpart of FilesystemSandboxAsync."""

    twin = FilesystemSandboxAsync

    def __enter__(self) -> "FilesystemSandbox":
        self.start()
        return self

    def read_file(self, path: str) -> Result:
        return self.call_tool("read_file", {"path": path})

    def read_multiple_files(self, paths: list[str]) -> Result:
        return self.call_tool("read_multiple_files", {"paths": paths})

    def write_file(self, path: str, content: str) -> Result:
        return self.call_tool("write_file", {"path": path, "content": content})

    def edit_file(self, path: str, edits: list[dict[str, str]], dry_run: bool = False) -> Result:
        return self.call_tool("edit_file", {"path": path, "edits": edits, "dryRun": dry_run})

    def create_directory(self, path: str) -> Result:
        return self.call_tool("create_directory", {"path": path})

    def list_directory(self, path: str) -> Result:
        return self.call_tool("list_directory", {"path": path})

    def directory_tree(self, path: str) -> Result:
        return self.call_tool("directory_tree", {"path": path})

    def move_file(self, source: str, destination: str) -> Result:
        return self.call_tool("move_file", {"source": source, "destination": destination})

    def search_files(self, path: str, pattern: str, exclude_patterns: list[str] | None = None) -> Result:
        arguments = {"path": path, "pattern": pattern, "excludePatterns": exclude_patterns or []}
        return self.call_tool("search_files", arguments)

    def get_file_info(self, path: str) -> Result:
        return self.call_tool("get_file_info", {"path": path})

    def list_allowed_directories(self) -> Result:
        return self.call_tool("list_allowed_directories")
