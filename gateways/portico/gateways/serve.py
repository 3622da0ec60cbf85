"""Serves a site on one port until SIGTERM; then its streams end so that clients can resume them."""

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from portico.gateways.http.server.batched_protocol import BatchedProtocol
from portico.gateways.http.server.https_certificates import Https
from portico.gateways.http.server.websocket_protocol import LimitedWebSocketProtocol
from portico.gateways.http.site import GatewaySite

STOP_SECONDS = 5


class _Server(uvicorn.Server):
    """A uvicorn server that ends the streams before it waits for connections to close."""

    def __init__(
        self, config: uvicorn.Config, site: GatewaySite, ready: Callable[[], None], https: Https | None
    ) -> None:
        super().__init__(config)
        self._site = site
        self._https = https
        self._renewing: asyncio.Task[NoReturn] | None = None
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            if self._https is not None:
                self._renewing = asyncio.create_task(self._https.follow(), name="certificates")
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        self._site.stop()
        await super().shutdown(sockets)


def serve(site: GatewaySite, host: str, port: int, fd: int | None, ready: Callable[[], None]) -> bool:
    """Serves the site until the process receives a signal.

    Args:
        site: The application.
        host: The host to bind.
        port: The port to bind; 0 for any free one.
        fd: File descriptor of an inherited listening socket, used instead of host and port.
        ready: Called once the server accepts connections.

    Returns:
        Whether the server started.
    """
    cert, key = site.settings.tls_cert, site.settings.tls_key
    https = None if cert is None or key is None else Https(cert, key, site.expiries)
    config = uvicorn.Config(
        site,
        host=host,
        port=port,
        loop="uvloop",
        http=BatchedProtocol,
        ws=LimitedWebSocketProtocol,
        # bounds the size that a few bytes can inflate to, and saves the CPU time
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        log_level="warning",
        lifespan="on",  # the server does not start when the site can't be opened
        backlog=4096,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ssl_certfile=site.settings.tls_cert,
        ssl_keyfile=site.settings.tls_key,
        ssl_context_factory=None if https is None else https.context,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    sockets = None if fd is None else [socket.socket(fileno=fd)]
    for number in HANDLED_SIGNALS:
        signal.signal(number, _heard)
    server = _Server(config, site, ready, https)
    with suppress(SystemExit):  # uvicorn exits when it can't listen, and has logged why
        server.run(sockets)
    return server.started


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Ignores the signal: uvicorn has already stopped for it and raises it again, which would end the process
    before its clean-up.
    """
