"""Sandboxes under the reference's names: in this process, and behind a gateway."""

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from support.serving import running_core, running_site, settings_in

from portico.agent import AgentApp
from portico.compat.agentscope_runtime.engine.services.sandbox import SandboxService, SandboxServiceFactory
from portico.compat.agentscope_runtime.errors import NotThereYet
from portico.compat.agentscope_runtime.sandbox import (
    BaseSandbox,
    BaseSandboxAsync,
    FilesystemSandbox,
    FilesystemSandboxAsync,
    GuiSandboxAsync,
)
from portico.compat.agentscope_runtime.sandbox.enums import SandboxType
from portico.compat.agentscope_runtime.sandbox.sandbox_location import RemoteError
from portico.gateways.sse.app import SseGateway
from portico.gateways.sse.settings import SseSettings


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[str]:
    app = AgentApp("nobody")

    @app.query
    async def query() -> str:
        return ""

    settings = SseSettings(**settings_in(tmp_path))
    async with running_core([app], tmp_path), running_site(SseGateway(settings), settings) as (url, _):
        yield url


def text(result: Any) -> str:
    assert not result["isError"], result
    return str(result["content"][0]["text"])


async def work(box: FilesystemSandboxAsync) -> None:
    """Uses every operation of a sandbox."""
    assert text(await box.run_ipython_cell("x = 6\nprint(x * 7)")) == "42\n"
    assert text(await box.run_shell_command("echo hello")) == "hello\n"
    tools = await box.list_tools_async()
    assert tools["generic"]["run_ipython_cell"]["json_schema"]["function"]["name"] == "run_ipython_cell"
    assert list(await box.list_tools_async("filesystem")) == ["filesystem"]
    await box.write_file("a/note.txt", "one two")
    assert text(await box.read_file("a/note.txt")) == "one two"
    edits = [{"oldText": "two", "newText": "three"}]
    await box.edit_file("a/note.txt", edits)
    assert "note.txt" in text(await box.search_files("/workspace", "note*"))
    assert (await box.call_tool_async("read_file", {"path": "nothing"}))["isError"]

    files = box.fs
    assert await files.read_async("a/note.txt") == "one three"
    written = await files.write_async("b.bin", BytesIO(b"\0" * 3))
    assert (written["name"], written["type"], written["size"]) == ("b.bin", "file", 3)
    assert await files.read_async("b.bin", fmt="bytes") == b"\0\0\0"
    pieces: Any = await files.read_async("b.bin", fmt="stream")
    assert b"".join([piece async for piece in pieces]) == b"\0\0\0"
    many = await files.write_many_async([{"path": "c", "data": "c"}, {"path": "d", "data": b"d"}])
    assert [one["name"] for one in many] == ["c", "d"]
    assert (await files.move_async("c", "e"))["name"] == "e"
    assert await files.mkdir_async("deep/er")
    await files.remove_async("a")
    assert not await files.exists_async("a")
    listed = await files.list_async("/workspace", depth=None)
    assert [(one["name"], one["type"]) for one in listed] == [
        *(("b.bin", "file"), ("d", "file"), ("deep", "dir"), ("er", "dir"), ("e", "file")),
    ]
    await files.write_from_path_async("self.py", __file__)
    assert await files.read_async("self.py") == await asyncio.to_thread(Path(__file__).read_text)


async def test_a_sandbox_of_this_process() -> None:
    async with FilesystemSandboxAsync() as box:
        await work(box)
        assert (await box.get_info_async())["sandbox_id"] == box.sandbox_id


async def test_a_sandbox_behind_a_gateway_is_the_same(gateway: str) -> None:
    async with FilesystemSandboxAsync(base_url=gateway) as box:
        await work(box)
        async with FilesystemSandboxAsync(box.sandbox_id, base_url=gateway) as same:
            assert text(await same.run_ipython_cell("print(x)")) == "6\n"
        # An object that did not create the sandbox does not end it.
        assert text(await box.run_ipython_cell("print(x)")) == "6\n"
        id = box.sandbox_id
    with pytest.raises(RemoteError, match="SANDBOX_GONE"):
        await FilesystemSandboxAsync(id, base_url=gateway).start_async()


def test_the_sync_twin_has_a_thread_of_its_own() -> None:
    box = FilesystemSandbox().start()
    try:
        assert text(box.run_ipython_cell("print(1)")) == "1\n"
        assert box.fs.write("a", "hello")["size"] == 5
        assert b"".join(box.fs.read("a", fmt="stream")) == b"hello"  # type: ignore[arg-type]
        assert box.fs.exists("a")
        assert box.list_tools("generic").keys() == {"generic"}
    finally:
        box.close()
    with pytest.raises(RuntimeError, match="not started"):
        box.run_ipython_cell("1")


def test_what_is_not_there_says_so() -> None:
    with pytest.raises(NotThereYet, match="workspace_dir"):
        BaseSandbox(workspace_dir="/tmp")
    with pytest.raises(NotThereYet, match="GuiSandboxAsync"):
        GuiSandboxAsync()
    with pytest.raises(NotThereYet, match="add_mcp_servers"):
        BaseSandbox().add_mcp_servers({})
    with pytest.raises(NotThereYet, match="computer_use"):
        FilesystemSandbox().computer_use("get_screenshot")
    with pytest.raises(ValueError, match="base_url"):
        BaseSandboxAsync("some-id")


async def test_a_service_gives_a_session_its_sandboxes_again() -> None:
    async with await SandboxServiceFactory.create() as service:
        assert isinstance(service, SandboxService)
        [box] = await asyncio.to_thread(service.connect, "s", "u")
        await asyncio.to_thread(box.call_tool, "run_ipython_cell", {"code": "x = 1"})
        [same] = await asyncio.to_thread(service.connect, "s", "u")
        assert (
            text(await asyncio.to_thread(same.call_tool, "run_ipython_cell", {"code": "print(x)"})) == "1\n"
        )
        with pytest.raises(NotThereYet, match="'gui'"):
            service.connect("t", sandbox_types=[SandboxType.BASE, "gui"])
        assert service.release("s", "u")
        with pytest.raises(RuntimeError, match="not started"):
            box.call_tool("run_ipython_cell", {"code": "1"})
        [left] = await asyncio.to_thread(service.connect, "s", "u", ["filesystem"])
    with pytest.raises(RuntimeError, match="not started"):
        left.get_info()
