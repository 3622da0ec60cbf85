"""Size and duration of requests are bounded; well-behaved callers are not affected."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from portico.gateways.http.server import limited_protocol
from portico.gateways.http.server.batched_protocol import BatchedProtocol

Open = Callable[[], Any]
HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n"


async def counting(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the size of the body; /early without reading it, /slowly after a sleep of 0.5 s."""
    size = 0
    if scope["path"] == "/slowly":
        await asyncio.sleep(0.5)
    while scope["path"] != "/early":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        if not message["more_body"]:
            break
    text = str(size).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@pytest.fixture
async def connect() -> AsyncIterator[Open]:
    """Opens a connection to a server; yields a reader and a writer."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(counting, http=BatchedProtocol, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve([listening]))
    while not server.started:
        await asyncio.sleep(0.005)
    writers = []

    async def open() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writers.append(writer)
        return reader, writer

    yield open
    for writer in writers:
        writer.close()
    server.should_exit = True
    await running


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Returns a response's status, and its body of content-length bytes."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


async def test_requests_within_the_limits_share_a_connection(connect: Open) -> None:
    reader, writer = await connect()
    for size in (0, 10, 200_000):
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % size + b"x" * size)
        assert await answer(reader) == (200, str(size).encode())


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"x-%d: 1\r\n" % number for number in range(100_000)),
        b"x: " + b"y" * 1_000_000,
        b"".join(b"x-%d: 1\r\n" % number for number in range(300)) + b"\r\n",
    ],
    ids=["100,000 headers", "one header of 1 MB", "300 headers"],
)
async def test_a_head_too_large_is_431(connect: Open, head: bytes) -> None:
    reader, writer = await connect()
    writer.write(HEAD + head)
    assert (await answer(reader))[0] == 431
    assert await rest(reader) == b""


async def test_a_url_too_large_is_431(connect: Open) -> None:
    reader, writer = await connect()
    writer.write(b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n")
    assert (await answer(reader))[0] == 431


UPGRADE = (
    b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n"
)


@pytest.mark.parametrize("upgrade", [b"", UPGRADE], ids=["http", "websocket"])
@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (b"", b"no Host header"),
        *(
            (b"host: a\r\n" + name + b": Bearer a\r\n" + name.upper() + b": Bearer b\r\n", name)
            for name in sorted(limited_protocol._ONCE)
        ),
    ],
)
async def test_a_head_that_can_be_understood_in_two_ways_is_400(
    connect: Open, head: bytes, problem: bytes, upgrade: bytes
) -> None:
    reader, writer = await connect()
    writer.write(b"GET / HTTP/1.1\r\n" + upgrade + head + b"\r\n")
    status, body = await answer(reader)
    assert (status, problem in body) == (400, True)
    assert await rest(reader) == b""


async def test_http_1_0_needs_no_host(connect: Open) -> None:
    reader, writer = await connect()
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert await answer(reader) == (200, b"0")


async def test_a_connection_that_says_nothing_is_closed(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_protocol, "HEAD_SECONDS", 0.1)
    reader, _ = await connect()
    assert await reader.read() == b""


@pytest.mark.parametrize("before", [b"", HEAD + b"content-length: 1\r\n\r\nx"], ids=["first", "second"])
async def test_a_head_too_slow_is_408(connect: Open, monkeypatch: pytest.MonkeyPatch, before: bytes) -> None:
    monkeypatch.setattr(limited_protocol, "HEAD_SECONDS", 0.3)
    reader, writer = await connect()
    if before:
        writer.write(before)
        assert (await answer(reader))[0] == 200
    trickle = asyncio.create_task(drip(writer, HEAD, pause=0.03))
    assert (await answer(reader))[0] == 408
    trickle.cancel()


async def test_a_body_too_slow_is_408(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_protocol, "BODY_SECONDS", 0.2)
    reader, writer = await connect()
    writer.write(HEAD + b"content-length: 100000\r\n\r\n")
    trickle = asyncio.create_task(drip(writer, b"x" * 1000))
    assert (await answer(reader))[0] == 408
    trickle.cancel()


async def test_a_body_that_keeps_its_rate_may_take_long(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_protocol, "BODY_SECONDS", 0.1)
    monkeypatch.setattr(limited_protocol, "BODY_RATE", 10)
    reader, writer = await connect()
    writer.write(HEAD + b"content-length: 30\r\n\r\n")
    await drip(writer, b"x" * 30, pause=0.02)
    assert await answer(reader) == (200, b"30")


async def test_time_in_which_the_application_does_not_read_is_not_the_callers(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_protocol, "BODY_SECONDS", 0.1)
    monkeypatch.setattr(limited_protocol, "BODY_RATE", 100 * 1024 * 1024)
    reader, writer = await connect()
    writer.write(b"POST /slowly HTTP/1.1\r\nhost: a\r\ncontent-length: 8000000\r\n\r\n" + b"x" * 8_000_000)
    assert await answer(reader) == (200, b"8000000")


async def test_a_body_that_was_answered_is_not_read_for_ever(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_protocol, "UNREAD_BYTES", 1_000_000)
    reader, writer = await connect()
    writer.write(b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000000\r\n\r\n")
    assert await answer(reader) == (200, b"0")
    with pytest.raises(ConnectionError):
        await pour(writer, 1_000_000_000)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Returns the bytes up to the end, which is a reset when the server has not read everything."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def drip(writer: asyncio.StreamWriter, data: bytes, pause: float = 0.01) -> None:
    """Sends one byte at a time."""
    for place in range(len(data)):
        writer.write(data[place : place + 1])
        await asyncio.sleep(pause)


async def pour(writer: asyncio.StreamWriter, size: int) -> None:
    for _ in range(0, size, 1_000_000):
        writer.write(b"x" * 1_000_000)
        await writer.drain()


async def test_a_websocket_that_begins_with_post_is_400(connect: Open) -> None:
    reader, writer = await connect()
    writer.write(
        b"POST / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert (await answer(reader))[0] == 400
    assert await rest(reader) == b""
