"""The supported sandboxes. Their methods are tools: models read these docstrings."""

from typing import Any

from portico.compat.agentscope_runtime.errors import NotThereYet
from portico.compat.agentscope_runtime.sandbox.enums import SandboxType
from portico.compat.agentscope_runtime.sandbox.sandbox_base import Sandbox, SandboxAsync

NO_DESKTOP = "sandboxes have no desktop; run programs with run_shell_command"


class BaseSandbox(Sandbox):
    """Python and shell."""

    def run_ipython_cell(self, code: str) -> Any:
        """Run an IPython cell.

        Args:
            code (str): IPython code to execute.
        """
        return self.call_tool("run_ipython_cell", {"code": code})

    def run_shell_command(self, command: str) -> Any:
        """Run a shell command.

        Args:
            command (str): Shell command to execute.
        """
        return self.call_tool("run_shell_command", {"command": command})


class BaseSandboxAsync(SandboxAsync):
    """Python and shell."""

    async def run_ipython_cell(self, code: str) -> Any:
        """Run an IPython cell.

        Args:
            code (str): IPython code to execute.
        """
        return await self.call_tool_async("run_ipython_cell", {"code": code})

    async def run_shell_command(self, command: str) -> Any:
        """Run a shell command.

        Args:
            command (str): Shell command to execute.
        """
        return await self.call_tool_async("run_shell_command", {"command": command})


class FilesystemSandbox(BaseSandbox):
    """Python, shell and tools for files."""

    kind = "filesystem"

    def __init__(
        self,
        sandbox_id: str | None = None,
        base_url: str | None = None,
        bearer_token: str | None = None,
        sandbox_type: SandboxType = SandboxType.FILESYSTEM,
        workspace_dir: str | None = None,
    ) -> None:
        super().__init__(sandbox_id, base_url, bearer_token, sandbox_type, workspace_dir)

    def read_file(self, path: str) -> Any:
        """Read the complete contents of a file.

        Args:
            path (str): Path to the file to read.
        """
        return self.call_tool("read_file", {"path": path})

    def read_multiple_files(self, paths: list[str]) -> Any:
        """Read the contents of multiple files.

        Args:
            paths (list[str]): Paths of the files to read.
        """
        return self.call_tool("read_multiple_files", {"paths": paths})

    def write_file(self, path: str, content: str) -> Any:
        """Create a new file or overwrite an existing one.

        Args:
            path (str): Path to the file to write.
            content (str): Content to write to the file.
        """
        return self.call_tool("write_file", {"path": path, "content": content})

    def edit_file(self, path: str, edits: list[dict[str, str]], dry_run: bool = False) -> Any:
        """Make edits to a text file.

        Args:
            path (str): Path to the file to edit.
            edits (list[dict]): Each has oldText, the text to replace, and newText.
            dry_run (bool): Only show the difference.
        """
        return self.call_tool("edit_file", {"path": path, "edits": edits, "dryRun": dry_run})

    def create_directory(self, path: str) -> Any:
        """Create a directory, or ensure that it exists.

        Args:
            path (str): Path to the directory to create.
        """
        return self.call_tool("create_directory", {"path": path})

    def list_directory(self, path: str) -> Any:
        """List the files and directories in a path.

        Args:
            path (str): Path to list contents from.
        """
        return self.call_tool("list_directory", {"path": path})

    def directory_tree(self, path: str) -> Any:
        """Get a recursive tree of files and directories as JSON.

        Args:
            path (str): Path to get the tree from.
        """
        return self.call_tool("directory_tree", {"path": path})

    def move_file(self, source: str, destination: str) -> Any:
        """Move or rename a file or directory.

        Args:
            source (str): Path to move from.
            destination (str): Path to move to.
        """
        return self.call_tool("move_file", {"source": source, "destination": destination})

    def search_files(self, path: str, pattern: str, exclude_patterns: list[str] | None = None) -> Any:
        """Search for files and directories that match a pattern.

        Args:
            path (str): Where to begin.
            pattern (str): Pattern to match.
            exclude_patterns (list[str]): Patterns to leave out.
        """
        return self.call_tool(
            "search_files", {"path": path, "pattern": pattern, "excludePatterns": exclude_patterns or []}
        )

    def get_file_info(self, path: str) -> Any:
        """Get metadata about a file or directory.

        Args:
            path (str): Path to the file or directory.
        """
        return self.call_tool("get_file_info", {"path": path})

    def list_allowed_directories(self) -> Any:
        """List the directories that may be accessed."""
        return self.call_tool("list_allowed_directories")

    def computer_use(
        self, action: str, coordinate: list[float] | None = None, text: str | None = None
    ) -> Any:
        """Raises NotThereYet."""
        raise NotThereYet("computer_use", NO_DESKTOP)


class FilesystemSandboxAsync(BaseSandboxAsync):
    """Python, shell and tools for files."""

    kind = "filesystem"

    def __init__(
        self,
        sandbox_id: str | None = None,
        base_url: str | None = None,
        bearer_token: str | None = None,
        sandbox_type: SandboxType = SandboxType.FILESYSTEM_ASYNC,
        workspace_dir: str | None = None,
    ) -> None:
        super().__init__(sandbox_id, base_url, bearer_token, sandbox_type, workspace_dir)

    async def read_file(self, path: str) -> Any:
        """Read the complete contents of a file.

        Args:
            path (str): Path to the file to read.
        """
        return await self.call_tool_async("read_file", {"path": path})

    async def read_multiple_files(self, paths: list[str]) -> Any:
        """Read the contents of multiple files.

        Args:
            paths (list[str]): Paths of the files to read.
        """
        return await self.call_tool_async("read_multiple_files", {"paths": paths})

    async def write_file(self, path: str, content: str) -> Any:
        """Create a new file or overwrite an existing one.

        Args:
            path (str): Path to the file to write.
            content (str): Content to write to the file.
        """
        return await self.call_tool_async("write_file", {"path": path, "content": content})

    async def edit_file(self, path: str, edits: list[dict[str, str]], dry_run: bool = False) -> Any:
        """Make edits to a text file.

        Args:
            path (str): Path to the file to edit.
            edits (list[dict]): Each has oldText, the text to replace, and newText.
            dry_run (bool): Only show the difference.
        """
        return await self.call_tool_async("edit_file", {"path": path, "edits": edits, "dryRun": dry_run})

    async def create_directory(self, path: str) -> Any:
        """Create a directory, or ensure that it exists.

        Args:
            path (str): Path to the directory to create.
        """
        return await self.call_tool_async("create_directory", {"path": path})

    async def list_directory(self, path: str) -> Any:
        """List the files and directories in a path.

        Args:
            path (str): Path to list contents from.
        """
        return await self.call_tool_async("list_directory", {"path": path})

    async def directory_tree(self, path: str) -> Any:
        """Get a recursive tree of files and directories as JSON.

        Args:
            path (str): Path to get the tree from.
        """
        return await self.call_tool_async("directory_tree", {"path": path})

    async def move_file(self, source: str, destination: str) -> Any:
        """Move or rename a file or directory.

        Args:
            source (str): Path to move from.
            destination (str): Path to move to.
        """
        return await self.call_tool_async("move_file", {"source": source, "destination": destination})

    async def search_files(self, path: str, pattern: str, exclude_patterns: list[str] | None = None) -> Any:
        """Search for files and directories that match a pattern.

        Args:
            path (str): Where to begin.
            pattern (str): Pattern to match.
            exclude_patterns (list[str]): Patterns to leave out.
        """
        return await self.call_tool_async(
            "search_files", {"path": path, "pattern": pattern, "excludePatterns": exclude_patterns or []}
        )

    async def get_file_info(self, path: str) -> Any:
        """Get metadata about a file or directory.

        Args:
            path (str): Path to the file or directory.
        """
        return await self.call_tool_async("get_file_info", {"path": path})

    async def list_allowed_directories(self) -> Any:
        """List the directories that may be accessed."""
        return await self.call_tool_async("list_allowed_directories")

    async def computer_use(
        self, action: str, coordinate: list[float] | None = None, text: str | None = None
    ) -> Any:
        """Raises NotThereYet."""
        raise NotThereYet("computer_use", NO_DESKTOP)

    async def get_desktop_url_async(self) -> None:
        """Returns None: sandboxes have no desktop."""
        return self.desktop_url
