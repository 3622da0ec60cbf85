"""The framework-independent form of the tools of sandboxes and MCP servers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from portico.agent.sandbox import SandboxAccess

if TYPE_CHECKING:
    from mcp import ClientSession


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool: text for the model, and whether the call failed."""

    text: str
    failed: bool
    raw: Any  # as an MCP tool result


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool by name, and its call with the arguments by name. `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: dict[str, Any]
    call: Callable[[Mapping[str, Any]], Awaitable[ToolResult]]


def sandbox_tool(method: Callable[..., Any]) -> OfferedTool:
    """Returns the tool of `sandbox.run_ipython_cell`, or of `partial(sandbox.call_tool, "read_file")`.

    Raises:
        ValueError: The method is not a tool of a sandbox.
    """
    from portico.sandbox.tools import TOOLS

    bound: Any = method.func if isinstance(method, partial) else method
    name = str(method.args[0]) if isinstance(method, partial) and method.args else bound.__name__
    sandbox = getattr(bound, "__self__", None)
    tool = TOOLS.get(name)
    if tool is None or sandbox is None:
        raise ValueError(f"{name!r} is not a tool of a sandbox; there are: {', '.join(sorted(TOOLS))}")
    return _sandbox_tool(sandbox, tool.schema())


async def tools_of_sandbox(sandbox: SandboxAccess) -> list[OfferedTool]:
    """Returns all tools of a sandbox."""
    listed = await sandbox.list_tools()
    return [
        _sandbox_tool(sandbox, tool["json_schema"]) for group in listed.values() for tool in group.values()
    ]


def _sandbox_tool(sandbox: SandboxAccess, schema: Mapping[str, Any]) -> OfferedTool:
    function = schema["function"]
    name = function["name"]

    async def call(arguments: Mapping[str, Any]) -> ToolResult:
        result = await sandbox.call_tool(name, arguments)
        return ToolResult(_text(result["content"]), bool(result.get("isError")), result)

    return OfferedTool(name, function["description"], function["parameters"], call)


async def tools_of_mcp_server(session: "ClientSession") -> list[OfferedTool]:
    """Returns all tools of an MCP server; the session must stay open while they are used."""
    from mcp.types import PaginatedRequestParams

    tools: list[OfferedTool] = []
    cursor = ""
    while True:
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor) if cursor else None)
        for tool in page.tools:
            told = tool.model_dump(mode="json", by_alias=True)
            tools.append(
                OfferedTool(
                    tool.name,
                    tool.description or "",
                    told["inputSchema"],
                    partial(_call_mcp, session, tool.name),
                )
            )
        cursor = page.model_dump(by_alias=True).get("nextCursor") or ""
        if not cursor:
            return tools


async def _call_mcp(session: "ClientSession", name: str, arguments: Mapping[str, Any]) -> ToolResult:
    result = (await session.call_tool(name, dict(arguments))).model_dump(mode="json", by_alias=True)
    return ToolResult(_text(result["content"]), bool(result.get("isError")), result)


def _text(content: Sequence[Mapping[str, Any]]) -> str:
    """Returns the text of an MCP result; other content is named."""
    return "\n".join(
        part["text"] if part.get("type") == "text" else f"[{part.get('type')}: {part.get('mimeType', '')}]"
        for part in content
    )
