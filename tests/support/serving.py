"""A core, and gateways on a real port before it, in the test's event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from portico.agent import AgentApp
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings
from portico.gateways.http.server.batched_protocol import BatchedProtocol
from portico.gateways.http.server.websocket_protocol import LimitedWebSocketProtocol
from portico.gateways.http.settings import HttpSettings
from portico.gateways.http.site import Gateway, GatewaySite

# starts a gateway with these settings; returns a client of it
Serve = Callable[..., Awaitable[httpx.AsyncClient]]


@asynccontextmanager
async def running_core(
    agents: Sequence[AgentApp], directory: Path, **settings: Any
) -> AsyncIterator[CoreServer]:
    """Starts a core on the directory's socket."""
    usual: dict[str, Any] = {
        "listen": [f"unix:{directory}/core.sock"],
        "store": "memory://",
        "drain_seconds": 0,
        "reader_grace_seconds": 0.2,
    }
    given = CoreSettings(**{**usual, **settings})
    server = CoreServer(agents, given)
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def running_site(
    gateways: Gateway | Sequence[Gateway], settings: HttpSettings
) -> AsyncIterator[tuple[str, GatewaySite]]:
    """Serves the site of one or several gateways; yields its URL."""
    site = GatewaySite(gateways if isinstance(gateways, Sequence) else [gateways], settings)
    # With an explicit protocol number, because asyncio otherwise leaves Nagle's delay on.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(100)
    config = uvicorn.Config(
        site,
        http=BatchedProtocol,
        ws=LimitedWebSocketProtocol,
        log_level="critical",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve([listening]))
    while not server.started:
        await asyncio.sleep(0.005)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", site
    site.stop()
    server.should_exit = True
    await running


@asynccontextmanager
async def client_of(gateway: Gateway, settings: HttpSettings) -> AsyncIterator[httpx.AsyncClient]:
    """Yields a client of a gateway; its `site` is the gateway's."""
    async with (
        running_site(gateway, settings) as (url, site),
        httpx.AsyncClient(base_url=url, timeout=10) as client,
    ):
        client.site = site  # type: ignore[attr-defined]
        yield client


@asynccontextmanager
async def served(
    gateway: Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]],
) -> AsyncIterator[Serve]:
    """Yields a function that starts such gateways with given settings; they stop together."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> httpx.AsyncClient:
            return await stack.enter_async_context(gateway(**settings))

        yield start


def settings_in(directory: Path, **settings: Any) -> dict[str, Any]:
    """Returns settings of a gateway before the directory's core."""
    return {"core": f"unix:{directory}/core.sock", "resume_seconds": 1.0, **settings}
