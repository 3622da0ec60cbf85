"""Interface of the session's sandbox for query functions. Calls raise portico.sandbox.errors.SandboxError."""

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
    """The session's sandbox. The first use creates it; it stays for later runs of the session.

    Cancelling a run ends the calls that it has open in the sandbox and the processes that it has started.
    """

    async def sandbox_id(self) -> str:
        """Returns the sandbox's id, for clients of the SandboxService."""
        ...

    async def run_cell(self, code: str, *, timeout: float | None = None) -> "CellResult":
        """Runs Python code and returns its output and result. Variables persist from cell to cell.

        Args:
            timeout: Seconds; by default the sandbox's limit for a call.
        """
        ...

    def stream_cell(
        self, code: str, *, timeout: float | None = None, allow_input: bool = False
    ) -> "AsyncGenerator[CellEvent, None]":
        """Runs Python code and yields its events; the last one is CellEnd.

        With `allow_input`, the code's input() yields a CellInput event; await its `answer` with the text.
        """
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
        """Runs a shell command (str), or a program with arguments (sequence), and returns its output."""
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
        """Runs a command and yields its events; the last one is ProcessEnd."""
        ...

    async def start_process(
        self, command: str | Sequence[str], *, cwd: str = "", env: Mapping[str, str] | None = None
    ) -> "ProcessInfo":
        """Starts a command in the background."""
        ...

    def watch_process(self, pid: int, *, offset: int = 0) -> "AsyncGenerator[ProcessEvent, None]":
        """Yields a process's output from a byte offset until the process ends."""
        ...

    async def signal_process(self, pid: int, number: int) -> None:
        """Sends a signal to a process and to the processes that it has started."""
        ...

    async def run_ipython_cell(self, code: str) -> dict[str, Any]:
        """Calls the tool run_ipython_cell."""
        ...

    async def run_shell_command(self, command: str) -> dict[str, Any]:
        """Calls the tool run_shell_command."""
        ...

    async def list_tools(self) -> dict[str, Any]:
        """Returns the tools by group and name, each as {"name", "json_schema"}, for a model's request."""
        ...

    async def call_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Calls a tool and returns an MCP tool result; its isError is true if the call failed."""
        ...

    async def read_file(self, path: str) -> bytes:
        """Returns a file's content, at most 64 MiB; `download` has no limit."""
        ...

    async def write_file(self, path: str, content: bytes | str) -> int:
        """Writes a file; returns its size in bytes."""
        ...

    def download(self, path: str) -> AsyncGenerator[bytes, None]:
        """Yields a file's content in pieces."""
        ...

    async def upload(self, path: str, pieces: AsyncIterable[bytes]) -> int:
        """Writes a file from pieces; returns its size in bytes."""
        ...

    async def list_directory(self, path: str = ".", *, depth: int = 1) -> "Sequence[Entry]":
        """Lists a directory, `depth` levels deep; each directory comes before its content."""
        ...

    async def search_files(
        self, path: str = ".", pattern: str = "*", *, text: str | None = None
    ) -> "Sequence[Found]":
        """Finds files by a name pattern and, with `text`, by a text that they contain."""
        ...

    async def make_directory(self, path: str) -> None: ...

    async def move_file(self, source: str, destination: str, *, overwrite: bool = False) -> None: ...

    async def remove_file(self, path: str, *, recursive: bool = False) -> None: ...


class Sandboxes(Protocol):
    """Returns the sandbox of a type for the run's session."""

    def __call__(self, kind: str) -> SandboxAccess: ...
