"""The HTTP gateways of one process, behind one port and over one connection to the core."""

from collections.abc import Sequence
from typing import Protocol

from starlette.types import Receive, Scope, Send

from portico.client import Client, Multiplexer
from portico.gateways.http.core import Core
from portico.gateways.http.settings import HttpSettings


class Gateway(Protocol):
    """An ASGI application for one protocol."""

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

    def __init__(self, gateways: Sequence[Gateway], settings: HttpSettings) -> None:
        self._gateways = tuple(gateways)
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path: str = scope["path"]
        for gateway in self._gateways[:-1]:
            if gateway.claims(path):
                await gateway(scope, receive, send)
                return
        await self._gateways[-1](scope, receive, send)

    def stop(self) -> None:
        """End all streams of all gateways, resumably."""
        for gateway in self._gateways:
            gateway.stop()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with (
            Client(self._settings.core) as client,
            Multiplexer(client, resume_timeout=self._settings.resume_seconds) as streams,
        ):
            for gateway in self._gateways:
                gateway.open(Core(client, streams))
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
