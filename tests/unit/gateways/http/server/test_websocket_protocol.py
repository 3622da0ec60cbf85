"""A WebSocket client that does not read, or sends tiny fragments, does not fill the memory."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Scope, Send
from support.serving import running_site

from portico.gateways.http.core_connection import CoreConnection
from portico.gateways.http.server.websocket_protocol import LimitedWebSocketProtocol
from portico.gateways.http.settings import HttpSettings

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Echo:
    name = "echo"
    settings = HttpSettings()

    def claims(self, path: str) -> bool:
        return True

    def open(self, core: CoreConnection) -> None:
        pass

    def stop(self) -> None:
        pass

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": str(len(message.get("bytes") or b""))})


Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def pipe() -> AsyncIterator[Pipe]:
    async with running_site(Echo(), HttpSettings()) as (url, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(HANDSHAKE)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        yield reader, writer
        writer.transport.abort()


def frame(opcode: int, data: bytes, *, end: bool) -> bytes:
    """Returns a frame of up to 125 bytes, masked with zeros."""
    return bytes([opcode | (0x80 if end else 0), 0x80 | len(data)]) + bytes(4) + data


async def test_who_does_not_read_is_read_no_more(pipe: Pipe) -> None:
    pings = frame(9, b"x" * 125, end=True) * 1000

    async def ping() -> None:
        for _ in range(500):  # 65 MB
            pipe[1].write(pings)
            await asyncio.wait_for(pipe[1].drain(), 2)

    with pytest.raises(TimeoutError):
        await ping()


async def test_fragments_are_joined_as_they_come(pipe: Pipe) -> None:
    reader, writer = pipe
    writer.write(frame(2, b"x", end=False) + frame(0, b"x", end=False) * 50_000)
    await writer.drain()
    (protocol,) = (one for one in gc.get_objects() if isinstance(one, LimitedWebSocketProtocol))
    async with asyncio.timeout(60):
        while len(protocol._message) < 50_001:
            await asyncio.sleep(0.01)
    assert len(protocol.frames) <= 1
    writer.write(frame(0, b"", end=True))
    assert await reader.readexactly(7) == b"\x81\x0550001"
