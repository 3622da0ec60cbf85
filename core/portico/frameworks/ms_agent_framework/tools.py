"""Converts tools of sandboxes and MCP servers to those of the Microsoft Agent Framework."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from agent_framework import FunctionTool

from portico.agent.sandbox import SandboxAccess
from portico.frameworks.common.offered_tools import (
    OfferedTool,
    sandbox_tool,
    tools_of_mcp_server,
    tools_of_sandbox,
)

if TYPE_CHECKING:
    from mcp import ClientSession

Approval = Literal["always_require", "never_require"]


def sandbox_tool_adapter(method: Callable[..., Any], *, approval: Approval = "never_require") -> FunctionTool:
    """Converts one tool of a sandbox: `sandbox_tool_adapter(sandbox.run_ipython_cell)`.

    Raises:
        ValueError: The method is not a tool of a sandbox.
    """
    return _native(sandbox_tool(method), approval)


async def sandbox_tools(
    sandbox: SandboxAccess, *, approval: Approval = "never_require"
) -> list[FunctionTool]:
    """Returns all tools of a sandbox."""
    return [_native(tool, approval) for tool in await tools_of_sandbox(sandbox)]


async def mcp_tools(session: "ClientSession", *, approval: Approval = "never_require") -> list[FunctionTool]:
    """Returns all tools of an MCP server."""
    return [_native(tool, approval) for tool in await tools_of_mcp_server(session)]


def _native(tool: OfferedTool, approval: Approval) -> FunctionTool:
    async def call(**arguments: Any) -> str:
        return (await tool.call(arguments)).text

    return FunctionTool(
        name=tool.name,
        description=tool.description,
        func=call,
        input_model=tool.parameters,
        approval_mode=approval,
    )
