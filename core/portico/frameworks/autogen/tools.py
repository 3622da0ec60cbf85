"""Converts tools of sandboxes and MCP servers to AutoGen's."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from autogen_core import CancellationToken
from autogen_core.tools import BaseTool, ToolSchema
from pydantic import BaseModel, ConfigDict

from portico.agent.sandbox import SandboxAccess
from portico.frameworks.common.offered_tools import (
    OfferedTool,
    sandbox_tool,
    tools_of_mcp_server,
    tools_of_sandbox,
)

if TYPE_CHECKING:
    from mcp import ClientSession


class Arguments(BaseModel):
    """Accepts any arguments: the sandbox or the MCP server validates them."""

    model_config = ConfigDict(extra="allow")


class PorticoTool(BaseTool[Arguments, str]):
    """A tool that Portico executes."""

    def __init__(self, tool: OfferedTool) -> None:
        super().__init__(Arguments, str, tool.name, tool.description)
        self._offered = tool

    @property
    def schema(self) -> ToolSchema:
        tool = self._offered
        return ToolSchema(name=tool.name, description=tool.description, parameters=tool.parameters)  # type: ignore[typeddict-item]

    async def run_json(
        self, args: Mapping[str, Any], cancellation_token: CancellationToken, call_id: str | None = None
    ) -> str:
        return await self.run(Arguments(**args), cancellation_token)

    async def run(self, args: Arguments, cancellation_token: CancellationToken) -> str:
        """Calls the tool. Raises RuntimeError with the tool's error, which AutoGen passes to the model."""
        result = await self._offered.call(args.model_extra or {})
        if result.failed:
            raise RuntimeError(result.text)
        return result.text


def sandbox_tool_adapter(method: Callable[..., Any]) -> PorticoTool:
    """Converts one tool of a sandbox: `sandbox_tool_adapter(sandbox.run_ipython_cell)`.

    Raises:
        ValueError: The method is not a tool of a sandbox.
    """
    return PorticoTool(sandbox_tool(method))


async def sandbox_tools(sandbox: SandboxAccess) -> list[PorticoTool]:
    """Returns all tools of a sandbox."""
    return [PorticoTool(tool) for tool in await tools_of_sandbox(sandbox)]


async def mcp_tools(session: "ClientSession") -> list[PorticoTool]:
    """Returns all tools of an MCP server."""
    return [PorticoTool(tool) for tool in await tools_of_mcp_server(session)]
