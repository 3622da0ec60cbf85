"""Sandboxes through mcp's own client, for both generations of the protocol."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from support.serving import running_core, running_site, settings_in

from portico.agent import AgentApp
from portico.gateways.mcp.lazy_gateway import LazyMcpGateway
from portico.gateways.mcp.settings import McpSettings


def nobody() -> AgentApp:
    app = AgentApp("nobody")

    @app.query
    async def query(msgs: list[object]) -> str:
        return ""

    return app


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    settings = McpSettings(**settings_in(tmp_path, output_characters=1000, file_bytes=1024))
    gateway = LazyMcpGateway(settings)
    async with running_core([nobody()], tmp_path), running_site(gateway, settings) as (site, _):
        yield f"{site}/mcp"


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Returns the structured result of a successful call."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    assert isinstance(result.structured_content, dict)
    return result.structured_content


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_any_client_runs_code_and_keeps_files(url: str, mode: Any) -> None:
    async with Client(url, mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["sandbox_run_code"].input_schema["required"] == ["code"]
        assert tools["sandbox_read_file"].annotations is not None
        assert tools["sandbox_read_file"].annotations.read_only_hint
        first = await call(client, "sandbox_run_code", code="x = 20\nprint('hi')\nx + 1")
        assert (first["stdout"], first["results"], first["truncated"]) == ("hi\n", ["21"], False)
        # Without an id: the caller's own sandbox, the same one again.
        again = await call(client, "sandbox_run_code", code="x + 2")
        assert (again["results"], again["sandbox_id"]) == (["22"], first["sandbox_id"])
        made = await call(client, "sandbox_create", idempotency_key=mode)
        other = made["sandbox_id"]
        assert (await call(client, "sandbox_create", idempotency_key=mode))["sandbox_id"] == other
        await call(client, "sandbox_write_file", sandbox_id=other, path="d/a.txt", text="é" * 600)
        read = await call(client, "sandbox_read_file", sandbox_id=other, path="d/a.txt")
        assert (read["text"], read["truncated"]) == ("é" * 512, True)
        listed = await call(client, "sandbox_list_files", sandbox_id=other, depth=2)
        assert [entry["type"] for entry in listed["files"]] == ["directory", "file"]
        ran = await call(
            client, "sandbox_exec", sandbox_id=other, command="cat; pwd", stdin="in ", cwd="/tmp"
        )
        assert (ran["stdout"], ran["exit_code"]) == ("in /tmp\n", 0)
        snapshot = await call(client, "sandbox_snapshot", sandbox_id=other)
        assert await call(client, "sandbox_list_snapshots") == {"snapshots": [snapshot], "truncated": False}
        fork = await call(client, "sandbox_fork", source=snapshot["snapshot_id"])
        await call(client, "sandbox_delete_snapshot", snapshot_id=snapshot["snapshot_id"])
        assert (await call(client, "sandbox_list_snapshots"))["snapshots"] == []
        ran = await call(client, "sandbox_exec", sandbox_id=fork["sandbox_id"], command="ls d")
        assert ran["stdout"] == "a.txt\n"
        for _ in range(2):
            assert (await call(client, "sandbox_kill", sandbox_id=other))["ended"]


async def test_what_goes_wrong_is_a_result(url: str) -> None:
    async with Client(url) as client:
        result = await client.call_tool("sandbox_run_code", {"code": "1 / 0"})
        assert result.is_error
        assert "ZeroDivisionError" in str(result.content)
        result = await client.call_tool("sandbox_run_code", {"code": "while 1: pass", "timeout_seconds": 0.2})
        assert "SANDBOX_TIMEOUT" in str(result.content)
        result = await client.call_tool("sandbox_exec", {"command": "exit 3"})
        assert (result.is_error, result.structured_content["exit_code"]) == (True, 3)
        result = await client.call_tool("sandbox_exec", {"command": "ls", "sandbox_id": "sbx_none"})
        assert "SANDBOX_NOT_FOUND" in str(result.content)
        result = await client.call_tool("sandbox_read_file", {"path": "../../etc/passwd"})
        assert "INVALID_PATH" in str(result.content)
        long = await call(client, "sandbox_run_code", code="print('a' * 5000 + 'z')")
        assert (long["truncated"], len(long["stdout"]) < 1100) == (True, True)
        assert long["stdout"].endswith("z\n")


async def test_a_figure_is_an_image(url: str) -> None:
    async with Client(url) as client:
        code = "class P:\n  def _repr_png_(self): return b'\\x89PNG'\nP()"
        result = await client.call_tool("sandbox_run_code", {"code": code})
        assert [getattr(part, "mime_type", "") for part in result.content] == ["", "image/png"]


async def test_a_sandbox_is_its_callers_only(url: str) -> None:
    def asked(token: str, tool: str, **arguments: Any) -> dict[str, Any]:
        return {
            "url": url,
            "headers": {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"},
            "json": {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "tools/call",
                "params": {"name": tool, "arguments": arguments},
            },
        }

    async with httpx.AsyncClient(timeout=30) as http:
        ann = (await http.post(**asked("ann", "sandbox_run_code", code="x = 1"))).json()["result"]
        box = ann["structuredContent"]["sandbox_id"]
        bob = (await http.post(**asked("bob", "sandbox_run_code", code="x", sandbox_id=box))).json()["result"]
        assert bob["isError"]
        assert "SANDBOX_NOT_FOUND" in bob["content"][0]["text"]
        fork = (await http.post(**asked("bob", "sandbox_fork", source=box))).json()["result"]
        assert "SANDBOX_NOT_FOUND" in fork["content"][0]["text"]
        own = (await http.post(**asked("bob", "sandbox_run_code", code="1"))).json()["result"]
        assert own["structuredContent"]["sandbox_id"] != box


async def test_a_rebound_name_is_not_answered(url: str) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.post(url, json={}, headers={"host": "evil.example"})
        assert answer.status_code == 421
    await asyncio.sleep(0)


async def test_many_who_ask_at_once_and_first_get_one_gateway(url: str) -> None:
    async with httpx.AsyncClient(timeout=60) as http:
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        headers = {"accept": "application/json, text/event-stream"}
        answers = await asyncio.gather(*(http.post(url, json=ping, headers=headers) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5, answers[0].text
