"""Converts tools of sandboxes and MCP servers to Agno's."""

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
    """Converts one tool of a sandbox: `sandbox_tool_adapter(sandbox.run_ipython_cell)`.

    Raises:
        ValueError: The method is not a tool of a sandbox.
    """
    return _native(sandbox_tool(method))


async def sandbox_tools(sandbox: SandboxAccess) -> list[Function]:
    """Returns all tools of a sandbox."""
    return [_native(tool) for tool in await tools_of_sandbox(sandbox)]


async def mcp_tools(session: "ClientSession") -> list[Function]:
    """Returns all tools of an MCP server."""
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
