"""Converts tools of sandboxes and MCP servers to the OpenAI Agents SDK's."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agents import FunctionTool

from portico.agent.sandbox import SandboxAccess
from portico.frameworks.common.conversation_turns import TurnToolCall
from portico.frameworks.common.offered_tools import (
    OfferedTool,
    sandbox_tool,
    tools_of_mcp_server,
    tools_of_sandbox,
)

if TYPE_CHECKING:
    from mcp import ClientSession


def sandbox_tool_adapter(method: Callable[..., Any]) -> FunctionTool:
    """Converts one tool of a sandbox: `sandbox_tool_adapter(sandbox.run_ipython_cell)`.

    Raises:
        ValueError: The method is not a tool of a sandbox.
    """
    return _native(sandbox_tool(method))


async def sandbox_tools(sandbox: SandboxAccess) -> list[FunctionTool]:
    """Returns all tools of a sandbox."""
    return [_native(tool) for tool in await tools_of_sandbox(sandbox)]


async def mcp_tools(session: "ClientSession") -> list[FunctionTool]:
    """Returns all tools of an MCP server."""
    return [_native(tool) for tool in await tools_of_mcp_server(session)]


def _native(tool: OfferedTool) -> FunctionTool:
    async def call(_context: Any, arguments: str) -> str:
        return (await tool.call(TurnToolCall("", tool.name, arguments).decoded())).text

    return FunctionTool(
        name=tool.name,
        description=tool.description,
        params_json_schema=tool.parameters,
        on_invoke_tool=call,
        strict_json_schema=False,
    )
