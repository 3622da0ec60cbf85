"""Converts tools of sandboxes and MCP servers to LangChain's."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from langchain_core.tools import StructuredTool, ToolException

from portico.agent.sandbox import SandboxAccess
from portico.frameworks.common.offered_tools import (
    OfferedTool,
    sandbox_tool,
    tools_of_mcp_server,
    tools_of_sandbox,
)

if TYPE_CHECKING:
    from mcp import ClientSession


def sandbox_tool_adapter(method: Callable[..., Any]) -> StructuredTool:
    """Converts one tool of a sandbox: `sandbox_tool_adapter(sandbox.run_ipython_cell)`.

    Raises:
        ValueError: The method is not a tool of a sandbox.
    """
    return _native(sandbox_tool(method))


async def sandbox_tools(sandbox: SandboxAccess) -> list[StructuredTool]:
    """Returns all tools of a sandbox."""
    return [_native(tool) for tool in await tools_of_sandbox(sandbox)]


async def mcp_tools(session: "ClientSession") -> list[StructuredTool]:
    """Returns all tools of an MCP server."""
    return [_native(tool) for tool in await tools_of_mcp_server(session)]


def _native(tool: OfferedTool) -> StructuredTool:
    async def call(**arguments: Any) -> tuple[str, Any]:
        result = await tool.call(arguments)
        if result.failed:
            # LangChain passes this to the model as an error, so that the model can retry.
            raise ToolException(result.text)
        return result.text, result.raw

    return StructuredTool(
        name=tool.name,
        description=tool.description,
        args_schema=tool.parameters,
        coroutine=call,
        response_format="content_and_artifact",
        handle_tool_error=True,
    )
