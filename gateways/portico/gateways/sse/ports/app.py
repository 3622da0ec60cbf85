"""The ASGI application below /ports/: requests go to a server inside, and its answers come out checked."""

import asyncio
from contextlib import aclosing
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.client import PorticoError
from portico.gateways.http.body import wait_disconnect
from portico.gateways.http.core import Core
from portico.gateways.http.corked import cut
from portico.gateways.http.seen import PORTS, ROUTE
from portico.gateways.sse.errors import from_status
from portico.gateways.sse.ports.errors import PortFailure, broken, late, unreachable
from portico.gateways.sse.ports.exchange import BODILESS, Exchange
from portico.gateways.sse.ports.headers import Headers
from portico.gateways.sse.ports.limits import PortLimits
from portico.gateways.sse.ports.place import Place, place_of
from portico.gateways.sse.ports.readers import preflight, readable
from portico.gateways.sse.ports.sockets import carry_socket
from portico.gateways.sse.ports.stream import PortStream

_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class _Cut(Exception):
    """The answer has begun and cannot be ended as it should."""


class Ports:
    """Carries requests and WebSockets to ports of sandboxes."""

    def __init__(self, core: Core, limits: PortLimits) -> None:
        self._core = core
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROUTE] = f"{PORTS}{{token}}"
        place = place_of(scope)
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send, place)
        elif isinstance(place, Response):
            await place(scope, receive, send)
        elif scope["method"] not in _METHODS:
            await from_status(405, {"allow": ", ".join(_METHODS)})(scope, receive, send)
        elif (allowed := preflight(scope, self._limits.origins)) is not None:
            await allowed(scope, receive, send)
        else:
            await self._request(scope, receive, send, place)

    async def _connect(self, place: Place) -> PortStream | Response:
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                connecting = self._core.client.sandboxes.connect_port(access_token=place.token)
                return PortStream(await connecting)
        except TimeoutError:
            return late(self._limits.answer_seconds).response()
        except PorticoError as error:
            return unreachable(error)

    async def _socket(self, scope: Scope, receive: Receive, send: Send, place: Place | Response) -> None:
        to = place if isinstance(place, Response) else await self._connect(place)
        if isinstance(to, Response):
            await to(scope, receive, send)
            return
        assert isinstance(place, Place)
        try:
            await carry_socket(to, place, self._limits, scope, receive, send)
        finally:
            await to.close()

    async def _request(self, scope: Scope, receive: Receive, send: Send, place: Place) -> None:
        stream = await self._connect(place)
        if isinstance(stream, Response):
            await stream(scope, receive, send)
            return
        try:
            await self._exchange(scope, receive, send, place, Exchange(stream))
        except PortFailure as failure:
            await failure.response()(scope, receive, send)
        except _Cut:
            cut(scope)
            await wait_disconnect(receive)
        finally:
            await stream.close()

    async def _exchange(
        self, scope: Scope, receive: Receive, send: Send, place: Place, exchange: Exchange
    ) -> None:
        """Raises PortFailure before the answer has begun, _Cut later."""
        headers = self._limits.headers.inwards(scope["headers"], place.prefix)
        headers += [(name, value) for name, value in scope["headers"] if name in _FRAMING]
        try:
            await exchange.ask(scope["method"], place.target, headers)
        except PorticoError:
            raise broken("the server inside hung up") from None
        answering = asyncio.create_task(self._answer(scope, send, place, exchange))
        asking = asyncio.create_task(_ask(receive, exchange))
        try:
            done, _ = await asyncio.wait({answering, asking}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            answering.cancel()
            asking.cancel()
            await asyncio.gather(answering, asking, return_exceptions=True)

    async def _answer(self, scope: Scope, send: Send, place: Place, exchange: Exchange) -> None:
        head = await exchange.head(self._limits.answer_seconds)
        headers: Headers = self._limits.headers.outwards(head.headers, place.target, place.prefix)
        if head.length is not None or head.status == 205:
            headers.append((b"content-length", b"%d" % (head.length or 0)))
        headers += readable(scope, self._limits.origins)
        await send({"type": "http.response.start", "status": head.status, "headers": headers})
        if scope["method"] != "HEAD" and head.status not in BODILESS:
            try:
                async with aclosing(exchange.body(self._limits.idle_seconds)) as pieces:
                    async for piece in pieces:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
            except PortFailure as failure:
                raise _Cut from failure
        await send({"type": "http.response.body", "body": b"", "more_body": False})


_FRAMING: Final = (b"content-length", b"transfer-encoding")


async def _ask(receive: Receive, exchange: Exchange) -> None:
    """Send the request's body; return when the caller has left."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        try:
            await exchange.send(message.get("body", b""), more=more)
        except PorticoError:
            break  # it takes no more; its answer, if there is one, says why
    await wait_disconnect(receive)
