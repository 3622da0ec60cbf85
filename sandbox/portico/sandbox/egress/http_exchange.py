"""Forwards one plain HTTP request and its response; each is parsed and serialized again."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import h11

from portico.sandbox.egress.dialing import Streams
from portico.sandbox.egress.http_requests import returned
from portico.sandbox.egress.idle_timeout import IdleTimeout
from portico.sandbox.egress.tunnel import SandboxSide, race

_CHUNK: Final = 64 << 10
_MAX_HEAD: Final = 64 << 10  # bytes of a response's head; hosts send more than clients do


async def exchange(
    inner: SandboxSide, client: h11.Connection, outer: Streams, request: h11.Request, idle: IdleTimeout
) -> None:
    """Sends the request with the body that `client` reads, and returns when the response was passed back.
    Raises h11.ProtocolError, OSError."""
    reader, writer = outer
    server = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
    writer.write(_sent(server, request))

    async def outwards() -> None:
        if client.they_are_waiting_for_100_continue:
            await inner.write(_sent(client, h11.InformationalResponse(status_code=100, headers=[])))
        async for event in _events(client, inner.read):
            if isinstance(event, h11.Data):
                writer.write(_sent(server, h11.Data(data=event.data)))
                await writer.drain()
                idle.reset()
            elif isinstance(event, h11.EndOfMessage):
                writer.write(_sent(server, h11.EndOfMessage()))  # trailers are dropped
        while await inner.read():
            pass  # each connection carries one request; this only detects that code inside has closed it
        idle.shorten()

    async def inwards() -> None:
        async for event in _events(server, lambda: reader.read(_CHUNK)):
            if isinstance(event, h11.Response):
                await inner.write(_sent(client, returned(event)))
            elif isinstance(event, h11.Data):
                await inner.write(_sent(client, h11.Data(data=event.data)))
            elif isinstance(event, h11.EndOfMessage):
                await inner.write(_sent(client, h11.EndOfMessage()))
            idle.reset()
        inner.end_write()

    await race(outwards(), inwards(), inner)


def _sent(connection: h11.Connection, event: h11.Event) -> bytes:
    return connection.send(event) or b""


async def _events(
    connection: h11.Connection, read: Callable[[], Awaitable[bytes]]
) -> AsyncIterator[h11.Event]:
    """Yields the events of the other side's message, to its end."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await read())
        elif isinstance(event, h11.Event):
            yield event
            if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return
        else:
            return  # a switch of protocols, which was not requested
