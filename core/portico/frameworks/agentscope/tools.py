"""Converts tools of sandboxes and MCP servers to AgentScope's."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentscope.message import TextBlock, ToolResultState
from agentscope.permission import PermissionBehavior, PermissionDecision
from agentscope.tool import ToolBase, ToolChunk

from portico.agent.sandbox import SandboxAccess
from portico.frameworks.common.offered_tools import (
    OfferedTool,
    sandbox_tool,
    tools_of_mcp_server,
    tools_of_sandbox,
)

if TYPE_CHECKING:
    from mcp import ClientSession


class PorticoTool(ToolBase):
    """A tool that Portico executes. A sandbox's tool needs no permission, because the sandbox isolates it."""

    def __init__(self, tool: OfferedTool, *, ask: bool) -> None:
        super().__init__()
        self.name = tool.name
        self.description = tool.description
        self.input_schema = tool.parameters
        self.is_concurrency_safe = False
        self.is_read_only = False
        self._call = tool.call
        self._ask = ask

    async def check_permissions(self, *_arguments: Any, **_named: Any) -> PermissionDecision:
        behavior = PermissionBehavior.ASK if self._ask else PermissionBehavior.ALLOW
        return PermissionDecision(behavior=behavior, message=f"{self.name} is a tool of {self._where}")

    @property
    def _where(self) -> str:
        return "an MCP server" if self._ask else "a sandbox"

    async def call(self, **arguments: Any) -> ToolChunk:
        result = await self._call(arguments)
        state = ToolResultState.ERROR if result.failed else ToolResultState.SUCCESS
        return ToolChunk(content=[TextBlock(text=result.text)], state=state)


def sandbox_tool_adapter(method: Callable[..., Any]) -> PorticoTool:
    """Converts one tool of a sandbox: `sandbox_tool_adapter(sandbox.run_ipython_cell)`.

    Raises:
        ValueError: The method is not a tool of a sandbox.
    """
    return PorticoTool(sandbox_tool(method), ask=False)


async def sandbox_tools(sandbox: SandboxAccess) -> list[PorticoTool]:
    """Returns all tools of a sandbox."""
    return [PorticoTool(tool, ask=False) for tool in await tools_of_sandbox(sandbox)]


async def mcp_tools(session: "ClientSession", *, ask: bool = True) -> list[PorticoTool]:
    """Returns all tools of an MCP server; with `ask`, a person confirms each call, as with AgentScope's own
    tools.
    """
    return [PorticoTool(tool, ask=ask) for tool in await tools_of_mcp_server(session)]
