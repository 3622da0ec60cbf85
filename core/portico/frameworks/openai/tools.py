"""Converts tools of sandboxes and MCP servers to functions of OpenAI's APIs, and calls them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A tool for `tools=[tool.chat]` or `tools=[tool.responses]`; `await tool(arguments)` calls it."""

    offered: OfferedTool

    @property
    def name(self) -> str:
        return self.offered.name

    @property
    def responses(self) -> dict[str, Any]:
        tool = self.offered
        about = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        return {"type": "function", **about, "strict": False}

    @property
    def chat(self) -> dict[str, Any]:
        tool = self.offered
        about = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        return {"type": "function", "function": about}

    async def __call__(self, arguments: str) -> str:
        """Calls the tool with the model's arguments (JSON text); returns text for the model."""
        return (await self.offered.call(TurnToolCall("", self.name, arguments).decoded())).text


def sandbox_tool_adapter(method: Callable[..., Any]) -> FunctionTool:
    """Converts one tool of a sandbox: `sandbox_tool_adapter(sandbox.run_ipython_cell)`.

    Raises:
        ValueError: The method is not a tool of a sandbox.
    """
    return FunctionTool(sandbox_tool(method))


async def sandbox_tools(sandbox: SandboxAccess) -> list[FunctionTool]:
    """Returns all tools of a sandbox."""
    return [FunctionTool(tool) for tool in await tools_of_sandbox(sandbox)]


async def mcp_tools(session: "ClientSession") -> list[FunctionTool]:
    """Returns all tools of an MCP server."""
    return [FunctionTool(tool) for tool in await tools_of_mcp_server(session)]
