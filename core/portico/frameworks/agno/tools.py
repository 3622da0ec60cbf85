"""Tools of sandboxes and MCP servers as Agno's."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agno.tools.function import Function

from portico.agent.sandbox import SandboxAccess
from portico.frameworks.common.offered_tools import (
    OfferedTool,
    sandbox_tool,
    tools_of_mcp_server,
    tools_of_sandbox,
)

if TYPE_CHECKING:
    from mcp import ClientSession


def sandbox_tool_adapter(method: Callable[..., Any]) -> Function:
    """`sandbox_tool_adapter(sandbox.run_ipython_cell)`. Raises ValueError for what is no sandbox's tool."""
    return _native(sandbox_tool(method))


async def sandbox_tools(sandbox: SandboxAccess) -> list[Function]:
    """All tools of a sandbox."""
    return [_native(tool) for tool in await tools_of_sandbox(sandbox)]


async def mcp_tools(session: "ClientSession") -> list[Function]:
    """All tools of an MCP server."""
    return [_native(tool) for tool in await tools_of_mcp_server(session)]


def _native(tool: OfferedTool) -> Function:
    async def call(**arguments: Any) -> str:
        return (await tool.call(arguments)).text

    return Function(
        name=tool.name,
        description=tool.description,
        parameters=tool.parameters,
        entrypoint=call,
        skip_entrypoint_processing=True,
    )
