"""An embedded core: the cases in which it ends by itself."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portico.agent import AgentApp
from portico.core.errors import FencedOut
from portico.core.stores.open_stores import open_stores
from portico.embedded import Embedded
from portico.embedded.embedded_server import listen


def echo() -> AgentApp:
    app = AgentApp("echo")

    @app.query
    async def query(msgs: list[object]) -> AsyncIterator[str]:
        yield "hello"

    return app


async def test_it_ends_when_another_core_takes_over_its_database(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/portico.db"
    embedded = Embedded([echo()], listen("127.0.0.1", 0), store=store)
    await asyncio.to_thread(embedded.start, 60)
    (tmp_path / "portico.db.lock").unlink()
    stores = await open_stores(store)
    try:
        async with asyncio.timeout(60):
            while embedded.running:
                await asyncio.sleep(0.05)
        assert isinstance(embedded._error, FencedOut)
        assert stores.owned is not None
        await stores.owned()
    finally:
        embedded.stop(10)
        await stores.close()


def test_a_gateway_that_cant_be_opened_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PORTICO_A2A_GRPC_LISTEN", f"127.0.0.1:{taken.getsockname()[1]}")
        embedded = Embedded([echo()], listen("127.0.0.1", 0), store="memory://")
        with pytest.raises(OSError, match="the gateways can't be served"):
            embedded.start(60)
    assert not embedded.running
