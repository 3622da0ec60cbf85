"""The HTTP gateways of one process, behind one port and over one connection to the core."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.client import Client, Multiplexer
from portico.gateways.http.core import Core, core_credentials
from portico.gateways.http.seen import PORTS, Requests, enter_request
from portico.gateways.http.settings import HttpSettings
from portico.telemetry import prometheus

METRICS = "/metrics"
_REFUSED = 1008  # of WebSocket: before a connection is accepted it becomes a 403


class Gateway(Protocol):
    """An ASGI application for one protocol, whose name is in what is seen of it."""

    name: str

    def claims(self, path: str) -> bool:
        """Whether a path is this gateway's."""
        ...

    def open(self, core: Core) -> None:
        """The core can be reached from now on. Called once, on the event loop, before any request."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def stop(self) -> None:
        """End all streams, resumably."""
        ...


class Site:
    """An ASGI application: each request goes to the first gateway that claims its path, or to the last."""

    def __init__(
        self, gateways: Sequence[Gateway], settings: HttpSettings, other_hosts: Sequence[str] = ()
    ) -> None:
        """Other hosts are where it listens beside HTTP."""
        self.gateways = tuple(gateways)
        self.settings = settings
        self.other_hosts = tuple(other_hosts)

    @property
    def measured(self) -> bool:
        """Whether Prometheus is told on /metrics."""
        return self.settings.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path: str = scope["path"]
        if path == METRICS and self.measured:
            await _metrics(scope, receive, send)
            return
        if scope["type"] == "websocket" and not self._opens(scope):
            await receive()
            await send({"type": "websocket.close", "code": _REFUSED})
            return
        enter_request(scope["headers"])
        gateway = next((one for one in self.gateways[:-1] if one.claims(path)), self.gateways[-1])
        if self._requests.seen:
            await self._requests.serve(gateway, gateway.name, scope, receive, send)
        else:
            await gateway(scope, receive, send)

    def _opens(self, scope: Scope) -> bool:
        """Whether a page of this origin may open a WebSocket; browsers do not check it (RFC 6455, 10.2).

        Below a signed path no page acts in anybody's name, and those of sandboxes have no origin to name.
        """
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not origin or scope["path"].startswith(PORTS):
            return True
        own = headers.get(b"host", b"").decode("latin-1")
        allowed = self.settings.cors_origins
        return origin.partition("://")[2] == own or origin in allowed or "*" in allowed

    def stop(self) -> None:
        """End all streams of all gateways, resumably."""
        for gateway in self.gateways:
            gateway.stop()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._requests = Requests(gateway.name for gateway in self.gateways)
        async with (
            Client(self.settings.core, tls=core_credentials(self.settings)) as client,
            Multiplexer(client, resume_timeout=self.settings.resume_seconds) as streams,
        ):
            for gateway in self.gateways:
                gateway.open(Core(client, streams))
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def _metrics(scope: Scope, receive: Receive, send: Send) -> None:
    body = await asyncio.to_thread(prometheus.text)
    await Response(body, media_type=prometheus.MEDIA_TYPE)(scope, receive, send)
