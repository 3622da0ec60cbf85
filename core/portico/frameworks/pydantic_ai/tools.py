"""Converts tools of sandboxes and MCP servers to Pydantic AI's."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic_ai import ModelRetry
from pydantic_ai.tools import Tool

from portico.agent.sandbox import SandboxAccess
from portico.frameworks.common.offered_tools import (
    OfferedTool,
    sandbox_tool,
    tools_of_mcp_server,
    tools_of_sandbox,
)

if TYPE_CHECKING:
    from mcp import ClientSession


def sandbox_tool_adapter(method: Callable[..., Any]) -> Tool[Any]:
    """Converts one tool of a sandbox: `sandbox_tool_adapter(sandbox.run_ipython_cell)`.

    Raises:
        ValueError: The method is not a tool of a sandbox.
    """
    return _native(sandbox_tool(method))


async def sandbox_tools(sandbox: SandboxAccess) -> list[Tool[Any]]:
    """Returns all tools of a sandbox."""
    return [_native(tool) for tool in await tools_of_sandbox(sandbox)]


async def mcp_tools(session: "ClientSession") -> list[Tool[Any]]:
    """Returns all tools of an MCP server."""
    return [_native(tool) for tool in await tools_of_mcp_server(session)]


def _native(tool: OfferedTool) -> Tool[Any]:
    async def call(**arguments: Any) -> str:
        result = await tool.call(arguments)
        if result.failed:
            raise ModelRetry(result.text)
        return result.text

    return Tool.from_schema(call, tool.name, tool.description, tool.parameters)
