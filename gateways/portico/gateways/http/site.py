"""Serves the HTTP gateways of one process on one port, with one connection to the core."""

import asyncio
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.client import Client, Multiplexer
from portico.gateways.http.core_connection import CLIENT_ADDRESS, CoreConnection, core_credentials
from portico.gateways.http.core_tls import renewed_tls
from portico.gateways.http.errors import BadRequest
from portico.gateways.http.rate_limit_headers import add_rate_limit_headers
from portico.gateways.http.request.origin_check import CoreAuthState, OriginCheck, Refusal
from portico.gateways.http.request.query_parameters import check_query
from portico.gateways.http.request_telemetry import PORTS, RequestTelemetry, enter_request
from portico.gateways.http.settings import HttpSettings
from portico.process.certificate_metrics import Expiries
from portico.telemetry.metrics import prometheus
from portico.telemetry.metrics.loop_watch import LoopWatch

METRICS = "/metrics"
_CLIENT_ADDRESS = CLIENT_ADDRESS.encode()


class Gateway(Protocol):
    """An ASGI application for one protocol; `name` identifies it in metrics and spans."""

    name: str

    @property
    def settings(self) -> HttpSettings:
        """The gateway's settings, including the pages and hosts that may call it."""
        ...

    def claims(self, path: str) -> bool:
        """Returns whether this gateway serves the path."""
        ...

    def open(self, core: CoreConnection) -> None:
        """Sets the connection to the core. Called once, on the event loop, before any request."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def stop(self) -> None:
        """Ends all streams so that clients can resume them."""
        ...


class GatewaySite:
    """An ASGI application that routes each request to the first gateway that claims its path, or to the last
    one.
    """

    def __init__(
        self,
        gateways: Sequence[Gateway],
        settings: HttpSettings,
        other_hosts: Sequence[str] = (),
        *,
        listening: Sequence[str] = (),
    ) -> None:
        """Creates the site without connecting to the core.

        Args:
            gateways: The gateways in order of precedence.
            settings: The settings of the process.
            other_hosts: Hosts on which gateways listen in addition to HTTP.
            listening: Hosts on which the site serves HTTP.
        """
        self.gateways = tuple(gateways)
        self.settings = settings
        self.other_hosts = tuple(other_hosts)
        self._auth = CoreAuthState()
        self._opened = False
        self._guard = OriginCheck(settings, listening, self._auth)
        self._guarded = [(one, OriginCheck(one.settings, listening, self._auth)) for one in self.gateways]

    @property
    def measured(self) -> bool:
        """Whether /metrics serves Prometheus metrics."""
        return self.settings.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path: str = scope["path"]
        if path == METRICS and self.measured and scope["type"] == "http":
            refusal = await self._guard.refusal(scope) or _wrong_query(scope)
            await (refusal or _metrics)(scope, receive, send)
            return
        enter_request(scope["headers"])
        _forward_client_address(scope)
        add_rate_limit_headers(scope)
        gateway, guard = next((one for one in self._guarded[:-1] if one[0].claims(path)), self._guarded[-1])
        # A signed path is itself the credential, and pages of sandboxes have an opaque origin.
        refusal = await guard.refusal(scope, any_origin=path.startswith(PORTS))
        app = refusal or gateway
        if self._requests.seen:
            await self._requests.serve(app, gateway.name, scope, receive, send)
        else:
            await app(scope, receive, send)

    @cached_property
    def expiries(self) -> Expiries:
        """The expiry times of this process's certificates. Created on first use, when metrics are set up."""
        return Expiries()

    def stop(self) -> None:
        """Ends all streams of all gateways so that clients can resume them."""
        for gateway in self.gateways:
            gateway.stop()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._requests = RequestTelemetry(gateway.name for gateway in self.gateways)
        watch = LoopWatch()
        watch.start()
        try:
            await self._serve(receive, send)
        except (OSError, ValueError) as error:
            if self._opened:
                raise
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        finally:
            watch.stop()

    async def _serve(self, receive: Receive, send: Send) -> None:
        async with (
            Client(self.settings.core, tls=core_credentials(self.settings)) as client,
            Multiplexer(client, resume_timeout=self.settings.resume_seconds) as streams,
            renewed_tls(client, self.settings, self.expiries),
        ):
            self._auth.open(client)
            for gateway in self.gateways:
                gateway.open(CoreConnection(client, streams))
            self._opened = True
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def _wrong_query(scope: Scope) -> Refusal | None:
    try:
        check_query(scope["query_string"], {})
    except BadRequest as error:
        return Refusal(error.status, error.code, error.message)
    return None


def _forward_client_address(scope: Scope) -> None:
    """Sets the header with the caller's address for the core, and drops one that the caller sent."""
    headers = [header for header in scope["headers"] if header[0] != _CLIENT_ADDRESS]
    if client := scope.get("client"):
        headers.append((_CLIENT_ADDRESS, client[0].encode()))
    scope["headers"] = headers


async def _metrics(scope: Scope, receive: Receive, send: Send) -> None:
    body = await asyncio.to_thread(prometheus.text)
    await Response(body, media_type=prometheus.MEDIA_TYPE)(scope, receive, send)
