"""Serves the MCP gateway beside others, and imports its SDK on the first request.

The import takes longer than that of all other gateways together, and many sites never need it.
"""

import asyncio
from importlib import import_module, metadata

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.gateways.gateway_registry import GatewayMissing
from portico.gateways.http.core_connection import CoreConnection
from portico.gateways.http.site import Gateway
from portico.gateways.mcp.settings import PATH, McpSettings

NEEDED = (2, 3)


class McpMissing(GatewayMissing):
    """The environment has no usable version of the MCP SDK; the message says how to install it."""


class LazyMcpGateway:
    """The MCP gateway, loaded on the first request."""

    name = "mcp"

    def __init__(self, settings: McpSettings) -> None:
        """Raises McpMissing."""
        check_sdk()
        self.settings = settings
        self._making: asyncio.Task[Gateway] | None = None
        self._core: CoreConnection | None = None
        self._stopped = False

    def claims(self, path: str) -> bool:
        return path == PATH

    def open(self, core: CoreConnection) -> None:
        self._core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # MCP does not use WebSockets.
            await Response(status_code=404)(scope, receive, send)
            return
        if self._stopped:
            await Response(status_code=503, headers={"retry-after": "1"})(scope, receive, send)
            return
        if self._making is None:
            self._making = asyncio.create_task(self._make(), name="mcp import")
        gateway = await asyncio.shield(self._making)
        await gateway(scope, receive, send)

    def stop(self) -> None:
        self._stopped = True
        if self._making is not None and self._making.done():
            self._making.result().stop()

    async def _make(self) -> Gateway:
        # In a thread, so that other streams continue.
        app = await asyncio.to_thread(import_module, "portico.gateways.mcp.app")
        gateway: Gateway = app.McpGateway(self.settings)
        assert self._core is not None
        gateway.open(self._core)
        if self._stopped:
            gateway.stop()
        return gateway


def check_sdk() -> None:
    """Raises McpMissing if the SDK is missing or too old."""
    try:
        found = metadata.version("mcp")
    except metadata.PackageNotFoundError:
        found = "none"
    if found == "none" or tuple(int(part) for part in found.split(".")[:2]) < NEEDED:
        raise McpMissing(f'needs mcp 2.3 or newer, found {found}; run: pip install "mcp>=2.3,<3"')
