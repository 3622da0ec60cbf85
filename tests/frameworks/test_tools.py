"""Tools of a sandbox and of an MCP server in the form of each framework."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from typing import Any

import pytest
from autogen_core import CancellationToken

from portico.sandbox.tools import list_tools

ARGUMENTS = {"code": "6 * 7"}


# AgentScope requires version 1 of mcp in this environment, which has other names for both.
MCP = import_module("mcp.client")
NEW = hasattr(MCP, "Client")


def mcp_server(name: str) -> Any:
    if NEW:
        return import_module("mcp.server").MCPServer(name)
    return import_module("mcp.server.fastmcp").FastMCP(name)


@asynccontextmanager
async def connected(server: Any) -> AsyncIterator[Any]:
    """Yields a session with the server."""
    if NEW:
        async with MCP.Client(server) as client:
            yield client.session
    else:
        memory = import_module("mcp.shared.memory")
        async with memory.create_connected_server_and_client_session(server._mcp_server) as session:
            yield session


class Sandbox:
    """The part of SandboxAccess that tools use."""

    def __init__(self) -> None:
        self.called: list[tuple[str, Mapping[str, Any]]] = []

    async def list_tools(self) -> dict[str, Any]:
        return list_tools("filesystem")

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self.called.append((name, dict(arguments)))
        return {"content": [{"type": "text", "text": "42"}], "isError": False}

    async def run_ipython_cell(self, code: str) -> dict[str, Any]:
        return await self.call_tool("run_ipython_cell", {"code": code})


async def langgraph(tool: Any, arguments: Any) -> Any:
    return await tool.ainvoke(arguments)


async def agentscope(tool: Any, arguments: Any) -> Any:
    return (await tool(**arguments)).content[0].text


async def agno(tool: Any, arguments: Any) -> Any:
    return await tool.entrypoint(**arguments)


async def autogen(tool: Any, arguments: Any) -> Any:
    return await tool.run_json(arguments, CancellationToken())


async def ms_agent_framework(tool: Any, arguments: Any) -> Any:
    result = await tool.invoke(arguments=arguments)
    return result if isinstance(result, str) else "".join(content.text for content in result)


async def openai(tool: Any, arguments: Any) -> Any:
    return await tool(json.dumps(arguments))


async def openai_agents(tool: Any, arguments: Any) -> Any:
    return await tool.on_invoke_tool(None, json.dumps(arguments))


async def pydantic_ai(tool: Any, arguments: Any) -> Any:
    return await tool.function(**arguments)


SCHEMAS: dict[str, Callable[[Any], Any]] = {
    "langgraph": lambda tool: tool.args_schema,
    "agentscope": lambda tool: tool.input_schema,
    "agno": lambda tool: tool.parameters,
    "autogen": lambda tool: tool.schema["parameters"],
    "ms_agent_framework": lambda tool: tool.parameters(),
    "openai": lambda tool: tool.responses["parameters"],
    "openai_agents": lambda tool: tool.params_json_schema,
    "pydantic_ai": lambda tool: tool.function_schema.json_schema,
}
CALLS = [langgraph, agentscope, agno, autogen, ms_agent_framework, openai, openai_agents, pydantic_ai]
each = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
Call = Callable[[Any, Any], Awaitable[Any]]


def adapter_of(call: Any) -> Any:
    return import_module(f"portico.frameworks.{call.__name__}")


@each
async def test_a_tool_of_a_sandbox_has_its_schema_and_is_called(call: Call) -> None:
    sandbox = Sandbox()
    tool = adapter_of(call).sandbox_tool_adapter(sandbox.run_ipython_cell)
    assert tool.name == "run_ipython_cell"
    schema = SCHEMAS[call.__name__](tool)
    assert schema["properties"]["code"]["type"] == "string"
    assert schema["required"] == ["code"]
    assert await call(tool, ARGUMENTS) == "42"
    assert sandbox.called == [("run_ipython_cell", ARGUMENTS)]


@each
async def test_all_tools_of_a_sandbox_are_found(call: Call) -> None:
    tools = await adapter_of(call).sandbox_tools(Sandbox())
    assert len(tools) == 13
    one = adapter_of(call).sandbox_tool_adapter(partial(Sandbox().call_tool, "read_file"))
    assert SCHEMAS[call.__name__](one)["required"] == ["path"]


@each
async def test_what_is_no_tool_of_a_sandbox_is_refused(call: Call) -> None:
    with pytest.raises(ValueError, match="'list_tools' is not a tool of a sandbox; there are: create_dir"):
        adapter_of(call).sandbox_tool_adapter(Sandbox().list_tools)


@each
async def test_a_tool_of_an_mcp_server_has_its_schema_and_is_called(call: Call) -> None:
    server = mcp_server("sums")

    @server.tool()
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        return str(a + b)

    async with connected(server) as session:
        (tool,) = await adapter_of(call).mcp_tools(session)
        assert tool.name == "add"
        assert SCHEMAS[call.__name__](tool)["properties"]["a"]["type"] == "integer"
        assert await call(tool, {"a": 2, "b": 3}) == "5"
