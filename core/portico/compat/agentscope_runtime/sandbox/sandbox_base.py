"""The base of all sandboxes, sync and async: start and close, tools by name, files."""

import logging
from collections.abc import Coroutine
from typing import Any, ClassVar, Self, TypeVar

from portico.compat.agentscope_runtime.errors import NotThereYet
from portico.compat.agentscope_runtime.sandbox.enums import SandboxType
from portico.compat.agentscope_runtime.sandbox.fs import SandboxFS, SandboxFSAsync
from portico.compat.agentscope_runtime.sandbox.sandbox_location import (
    LocalSandboxes,
    RemoteSandboxes,
    SandboxLocation,
)
from portico.sandbox.direct import SandboxLoopThread

log = logging.getLogger(__name__)
_NO_MCP = "give the agent an MCP server's tools with mcp_tools(session)"
T = TypeVar("T")


class SandboxBase:
    """A sandbox behind `base_url`, the URL of Portico's SSE gateway, or without a URL in this process.

    With a URL, `sandbox_id` may name an existing sandbox.
    """

    kind: ClassVar[str] = "base"  # the type of Portico's sandbox

    def __init__(
        self,
        sandbox_id: str | None = None,
        base_url: str | None = None,
        bearer_token: str | None = None,
        sandbox_type: SandboxType = SandboxType.BASE,
        workspace_dir: str | None = None,
    ) -> None:
        """Raises NotThereYet for `workspace_dir`, ValueError for an id without a URL."""
        if workspace_dir is not None:
            raise NotThereYet("workspace_dir", "copy files in and out with sandbox.fs")
        if sandbox_id is not None and not base_url:
            raise ValueError("a sandbox of this process has no id before it is started; give base_url too")
        self.base_url = base_url
        self.embed_mode = not base_url
        self.sandbox_type = sandbox_type
        self.sandbox_id = sandbox_id
        self.place: SandboxLocation = (
            RemoteSandboxes(self.kind, base_url, bearer_token, sandbox_id)
            if base_url
            else LocalSandboxes(self.kind)
        )

    @property
    def desktop_url(self) -> None:
        """Returns None: sandboxes have no desktop."""
        log.warning("%s has no desktop in Portico: desktop_url is None", type(self).__name__)


class SandboxAsync(SandboxBase):
    """Use `async with`, or start_async() and close_async()."""

    def __init__(
        self,
        sandbox_id: str | None = None,
        base_url: str | None = None,
        bearer_token: str | None = None,
        sandbox_type: SandboxType = SandboxType.BASE_ASYNC,
        workspace_dir: str | None = None,
    ) -> None:
        super().__init__(sandbox_id, base_url, bearer_token, sandbox_type, workspace_dir)
        self.fs = SandboxFSAsync(self)

    async def start_async(self) -> Self:
        self.sandbox_id = await self.place.open()
        return self

    async def close_async(self) -> None:
        await self.place.close()

    async def __aenter__(self) -> Self:
        return await self.start_async()

    async def __aexit__(self, exc_type: object, exc_value: object, traceback: object) -> None:
        await self.close_async()

    async def get_info_async(self) -> dict[str, Any]:
        return await self.place.info()

    async def list_tools_async(self, tool_type: str | None = None) -> dict[str, Any]:
        """Lists tools by group, or the tools of one group."""
        return _grouped(await self.place.tools(), tool_type)

    async def call_tool_async(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        """Calls a tool; returns an MCP tool result as a dict, in which isError reports a failure."""
        return await self.place.call(name, arguments or {})

    async def add_mcp_servers_async(self, server_configs: dict[str, Any], overwrite: bool = False) -> Any:
        """Raises NotThereYet."""
        raise NotThereYet("add_mcp_servers", _NO_MCP)


class Sandbox(SandboxBase):
    """Use `with`, or start() and close(). Each call runs on the sandbox's own thread."""

    def __init__(
        self,
        sandbox_id: str | None = None,
        base_url: str | None = None,
        bearer_token: str | None = None,
        sandbox_type: SandboxType = SandboxType.BASE,
        workspace_dir: str | None = None,
    ) -> None:
        super().__init__(sandbox_id, base_url, bearer_token, sandbox_type, workspace_dir)
        self.fs = SandboxFS(self)
        self._thread: SandboxLoopThread | None = None

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs work on the sandbox's thread; returns its result. Raises RuntimeError before the start."""
        if self._thread is None:
            work.close()
            raise RuntimeError("the sandbox is not started; use `with`, or start()")
        return self._thread.run(work)

    def start(self) -> Self:
        if self._thread is None:
            self._thread = SandboxLoopThread()
            try:
                self.sandbox_id = self.wait(self.place.open())
            except BaseException:
                self._end()
                raise
        return self

    def close(self) -> None:
        if self._thread is not None:
            try:
                self.wait(self.place.close())
            finally:
                self._end()

    def _end(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, exc_type: object, exc_value: object, traceback: object) -> None:
        self.close()

    def get_info(self) -> dict[str, Any]:
        return self.wait(self.place.info())

    def list_tools(self, tool_type: str | None = None) -> dict[str, Any]:
        """Lists tools by group, or the tools of one group."""
        return _grouped(self.wait(self.place.tools()), tool_type)

    def call_tool(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        """Calls a tool; returns an MCP tool result as a dict, in which isError reports a failure."""
        return self.wait(self.place.call(name, arguments or {}))

    def add_mcp_servers(self, server_configs: dict[str, Any], overwrite: bool = False) -> Any:
        """Raises NotThereYet."""
        raise NotThereYet("add_mcp_servers", _NO_MCP)


def _grouped(tools: dict[str, Any], group: str | None) -> dict[str, Any]:
    return tools if group is None else {group: tools.get(group, {})}
