"""A real core with real sandboxes, and a client to it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from portico.agent import AgentApp, Context, Message
from portico.client import Client
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings


def coder() -> AgentApp:
    """Executes the instruction in its input in its session's sandbox."""
    app = AgentApp("coder")

    @app.query
    async def query(msgs: Sequence[Message], context: Context) -> AsyncIterator[object]:
        word, _, code = msgs[-1].text.partition(" ")
        box = context.sandbox()
        match word:
            case "cell":
                yield (await box.run_cell(code)).stdout.decode()
            case "stream":
                async for event in box.stream_cell(code):
                    if data := getattr(event, "data", b""):
                        yield data.decode()
            case "id":
                yield await box.sandbox_id()
            case "start":
                await box.start_process(["sleep", "1000"])
                yield "started"
                await box.run_shell("sleep 1000")
            case "upload":

                async def pieces() -> AsyncIterator[bytes]:
                    for number in range(3):
                        yield f"{number} ".encode()

                await box.upload("numbers", pieces())
                async for piece in box.download("numbers"):
                    yield piece.decode()
            case "fails":
                await context.sandbox("nonsense").run_cell("1")

    return app


def threaded() -> AgentApp:
    """The same in a thread, which can't be stopped from outside."""
    app = AgentApp("threaded")

    @app.query
    def query(msgs: Sequence[Message], context: Context) -> str:
        result = context.call(context.sandbox().run_cell(msgs[-1].text))
        return result.stdout.decode()

    return app


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[CoreServer]:
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "note").write_text("hello")
    settings = CoreSettings(
        listen=[f"unix:{tmp_path}/core.sock"],
        store="memory://",
        drain_seconds=0,
        ephemeral_seconds=0.1,
        sandbox_max=6,
        sandbox_per_user=4,
        sandbox_snapshots=3,
        sandbox_snapshots_per_user=2,
        sandbox_snapshot_bytes_per_user=4 << 20,
        sandbox_mounts=[str(shown)],
    )
    server = CoreServer([coder(), threaded()], settings)
    await server.start()
    yield server
    await asyncio.wait_for(server.stop(), 30)


@pytest.fixture
async def client(core: CoreServer) -> AsyncIterator[Client]:
    async with Client(core.addresses[0]) as connected:
        yield connected
