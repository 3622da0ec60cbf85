"""The ASGI application of the proxy, for all paths below /ports/."""

import asyncio
from contextlib import aclosing
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.client import PorticoError
from portico.gateways.http.core_connection import CoreConnection
from portico.gateways.http.request.body import wait_disconnect
from portico.gateways.http.request_telemetry import PORTS, ROUTE
from portico.gateways.http.server.batched_protocol import abort_connection
from portico.gateways.sse.errors import from_status
from portico.gateways.sse.ports.cors import cors_headers, preflight
from portico.gateways.sse.ports.header_filter import Headers
from portico.gateways.sse.ports.http_exchange import BODILESS, Exchange
from portico.gateways.sse.ports.port_stream import PortStream
from portico.gateways.sse.ports.port_target import PortTarget, target_of
from portico.gateways.sse.ports.proxy_errors import PortFailure, protocol_error, timeout_error, unreachable
from portico.gateways.sse.ports.proxy_limits import PortLimits
from portico.gateways.sse.ports.websocket_proxy import forward_socket

_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class _ResponseTruncated(Exception):
    """The answer has begun, and the rest of its body will not arrive."""


class PortProxy:
    """Forwards requests and WebSockets to ports of sandboxes."""

    def __init__(self, core: CoreConnection, limits: PortLimits) -> None:
        self._core = core
        self._limits = limits
        self._answering: set[asyncio.Task[None]] = set()
        self._stopped = False

    def stop(self) -> None:
        """Ends the answers in progress: with 503 if they have not begun, else incomplete."""
        self._stopped = True
        for task in self._answering:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROUTE] = f"{PORTS}{{token}}"
        target = target_of(scope)
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send, target)
        elif isinstance(target, Response):
            await target(scope, receive, send)
        elif scope["method"] not in _METHODS:
            await from_status(405, {"allow": ", ".join(_METHODS)})(scope, receive, send)
        elif (allowed := preflight(scope, self._limits.origins)) is not None:
            await allowed(scope, receive, send)
        else:
            await self._request(scope, receive, send, target)

    async def _connect(self, target: PortTarget) -> PortStream | Response:
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                connecting = self._core.client.sandboxes.connect_port(access_token=target.token)
                return PortStream(await connecting)
        except TimeoutError:
            return timeout_error(self._limits.answer_seconds).response()
        except PorticoError as error:
            return unreachable(error)

    async def _socket(
        self, scope: Scope, receive: Receive, send: Send, target: PortTarget | Response
    ) -> None:
        to = target if isinstance(target, Response) else await self._connect(target)
        if isinstance(to, Response):
            await to(scope, receive, send)
            return
        assert isinstance(target, PortTarget)
        try:
            await forward_socket(to, target, self._limits, scope, receive, send)
        finally:
            await to.close()

    async def _request(self, scope: Scope, receive: Receive, send: Send, target: PortTarget) -> None:
        stream = await self._connect(target)
        if isinstance(stream, Response):
            await stream(scope, receive, send)
            return
        try:
            await self._exchange(scope, receive, send, target, Exchange(stream))
        except PortFailure as failure:
            await failure.response()(scope, receive, send)
        except _ResponseTruncated:
            abort_connection(scope)
            await wait_disconnect(receive)
        finally:
            await stream.close()

    async def _exchange(
        self, scope: Scope, receive: Receive, send: Send, target: PortTarget, exchange: Exchange
    ) -> None:
        """Raises PortFailure before the answer has begun, _ResponseTruncated after."""
        headers = self._limits.headers.inwards(scope["headers"], target.prefix)
        headers += [(name, value) for name, value in scope["headers"] if name in _FRAMING]
        try:
            await exchange.ask(scope["method"], target.path, headers)
        except PorticoError:
            raise protocol_error("the server in the sandbox closed the connection") from None
        if self._stopped:
            raise _stops()
        answering = asyncio.create_task(self._answer(scope, send, target, exchange))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)
        asking = asyncio.create_task(_ask(receive, exchange))
        try:
            done, _ = await asyncio.wait({answering, asking}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            answering.cancel()
            asking.cancel()
            await asyncio.gather(answering, asking, return_exceptions=True)

    async def _answer(self, scope: Scope, send: Send, target: PortTarget, exchange: Exchange) -> None:
        try:
            head = await exchange.head(self._limits.answer_seconds)
        except asyncio.CancelledError:
            if self._stopped:
                raise _stops() from None
            raise
        headers: Headers = self._limits.headers.outwards(head.headers, target.path, target.prefix)
        if head.length is not None or head.status == 205:
            headers.append((b"content-length", b"%d" % (head.length or 0)))
        headers += cors_headers(scope, self._limits.origins)
        await send({"type": "http.response.start", "status": head.status, "headers": headers})
        if scope["method"] != "HEAD" and head.status not in BODILESS:
            try:
                async with aclosing(exchange.body(self._limits.idle_seconds)) as pieces:
                    async for piece in pieces:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
            except (PortFailure, asyncio.CancelledError) as ended:
                if isinstance(ended, PortFailure) or self._stopped:
                    raise _ResponseTruncated from ended
                raise
        await send({"type": "http.response.body", "body": b"", "more_body": False})


_FRAMING: Final = (b"content-length", b"transfer-encoding")


def _stops() -> PortFailure:
    return PortFailure(503, "DRAINING", "this gateway is stopping; use another one")


async def _ask(receive: Receive, exchange: Exchange) -> None:
    """Sends the request's body, then returns when the caller disconnects."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        try:
            await exchange.send(message.get("body", b""), more=more)
        except PorticoError:
            break  # the server accepts no more; its answer, if any, says why
    await wait_disconnect(receive)
