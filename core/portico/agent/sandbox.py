"""What a query function has of its session's sandbox. It raises portico.sandbox.errors.SandboxError."""

from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from portico.sandbox.events import (
        CellEvent,
        CellResult,
        Entry,
        Found,
        ProcessEvent,
        ProcessInfo,
        ShellResult,
    )


class SandboxAccess(Protocol):
    """The session's own sandbox. It is made when it is first used and stays for the session's next runs.

    What the run has under way in it ends when the run is cancelled, also processes that it has started.
    """

    async def sandbox_id(self) -> str:
        """Its id, for clients of the SandboxService."""
        ...

    async def run_cell(self, code: str, *, timeout: float | None = None) -> "CellResult":
        """Runs Python and collects what it gives. Names live on from cell to cell."""
        ...

    def stream_cell(
        self, code: str, *, timeout: float | None = None, allow_input: bool = False
    ) -> "AsyncGenerator[CellEvent, None]":
        """Runs Python; the last event is CellEnd. With allow_input, input() brings a CellInput event, whose
        `answer` is to be awaited."""
        ...

    async def run_shell(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> "ShellResult":
        """Runs a shell command, or a program with arguments, and collects its output."""
        ...

    def stream_shell(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> "AsyncGenerator[ProcessEvent, None]":
        """Runs a command; the last event is ProcessEnd."""
        ...

    async def start_process(
        self, command: str | Sequence[str], *, cwd: str = "", env: Mapping[str, str] | None = None
    ) -> "ProcessInfo":
        """Starts a command that goes on by itself."""
        ...

    def watch_process(self, pid: int, *, offset: int = 0) -> "AsyncGenerator[ProcessEvent, None]":
        """A process's output from an offset to its end."""
        ...

    async def signal_process(self, pid: int, number: int) -> None:
        """Sends a signal to a process and what it has started."""
        ...

    async def run_ipython_cell(self, code: str) -> dict[str, Any]:
        """As call_tool("run_ipython_cell")."""
        ...

    async def run_shell_command(self, command: str) -> dict[str, Any]:
        """As call_tool("run_shell_command")."""
        ...

    async def list_tools(self) -> dict[str, Any]:
        """Group, then name, to {"name", "json_schema"}: what a model can be given."""
        ...

    async def call_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Calls a tool; the result is an MCP tool result, and isError says if it went wrong."""
        ...

    async def read_file(self, path: str) -> bytes:
        """At most 64 MiB; `download` has no limit."""
        ...

    async def write_file(self, path: str, content: bytes | str) -> int:
        """Returns the file's size."""
        ...

    def download(self, path: str) -> AsyncGenerator[bytes, None]:
        """A file in pieces."""
        ...

    async def upload(self, path: str, pieces: AsyncIterable[bytes]) -> int:
        """Writes a file from pieces; returns its size."""
        ...

    async def list_directory(self, path: str = ".", *, depth: int = 1) -> "Sequence[Entry]":
        """Each directory before what is in it."""
        ...

    async def search_files(
        self, path: str = ".", pattern: str = "*", *, text: str | None = None
    ) -> "Sequence[Found]":
        """Files by name, and by a text that they have."""
        ...

    async def make_directory(self, path: str) -> None: ...

    async def move_file(self, source: str, destination: str, *, overwrite: bool = False) -> None: ...

    async def remove_file(self, path: str, *, recursive: bool = False) -> None: ...


class Sandboxes(Protocol):
    """Gives the run's session its sandbox of a type."""

    def __call__(self, kind: str) -> SandboxAccess: ...
