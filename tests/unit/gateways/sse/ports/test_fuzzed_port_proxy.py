"""For any bytes of a server in a sandbox, the proxy fails with a typed error or returns a valid answer.

PORTICO_FUZZ_EXAMPLES sets the number of answers; if unset, they are the same each time.
"""

import asyncio
import base64
import hashlib
import os
import re
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE
from websockets.frames import Close

from portico.gateways.sse.ports.header_filter import PortHeaders
from portico.gateways.sse.ports.http_exchange import BODILESS, Exchange, Head
from portico.gateways.sse.ports.port_stream import PortStream
from portico.gateways.sse.ports.port_target import PortTarget
from portico.gateways.sse.ports.proxy_errors import PortFailure
from portico.gateways.sse.ports.proxy_limits import PortLimits
from portico.gateways.sse.ports.websocket_proxy import _Inner

EXAMPLES = settings(
    max_examples=int(os.environ.get("PORTICO_FUZZ_EXAMPLES", "100")),
    derandomize="PORTICO_FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
)
PREFIX = "/ports/token"
KNOWN = set(dict(PortHeaders().outwards([], "/", PREFIX)))
NAMES = st.sampled_from(
    [
        *(
            b"Content-Length",
            b"Transfer-Encoding",
            b"Content-Type",
            b"Location",
            b"ETag",
            b"Set-Cookie",
            b"Vary",
        ),
        *(b"Cache-Control", b"Connection", b"X-Accel-Redirect", b"Content-Encoding", b"Allow", b" X", b"X "),
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [b"0", b"3", b"5", b"-1", b"+3", b"3, 3", b"chunked", b"gzip, chunked", b"/a", b"//evil", b""]
    ),
    st.binary(max_size=8),
)
LINES = st.builds(
    lambda name, value, end: name + b":" + value + end, NAMES, VALUES, st.sampled_from([b"\r\n", b"\n"])
)
STARTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 200",
        b"HTTP/1.1 204 x",
        b"HTTP/1.1 100 c",
        b"HTTP/1.1 999 x",
        b"HTTP/2 200 x",
        b"\x00",
    ]
)
BODIES = st.sampled_from(
    [
        b"",
        b"abc",
        b"abcde",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n",
        b"ffffffffff\r\n",
        b"0\r\nA: b\r\n\r\n",
    ]
)
ANSWERS = st.one_of(
    st.builds(
        lambda start, lines, body: b"".join([start, b"\r\n", *lines, b"\r\n", body]),
        STARTS, st.lists(LINES, max_size=5), BODIES,
    ),
    st.binary(max_size=60),
)  # fmt: skip


class Server:
    """A connection that sends all of this in pieces and then ends; `answer` is sent after the first write."""

    def __init__(self, data: bytes, size: int, answer: bool = False) -> None:
        self._data, self._size, self._answer = data, size, answer
        self.written = b""

    async def read(self) -> bytes:
        piece, self._data = self._data[: self._size], self._data[self._size :]
        return piece

    async def write(self, data: bytes) -> None:
        if self._answer:
            self._answer = False
            key = re.findall(rb"(?i)sec-websocket-key: (\S+)", data)[0]
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            head = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            self._data = head + accept + b"\r\n\r\n" + self._data
        self.written += data

    async def close(self) -> None:
        pass


Answer = tuple[Head, list[tuple[bytes, bytes]], bytes]


async def exchanged(data: bytes, size: int, method: str) -> Answer | None:
    """Returns the answer; None if it is refused."""
    try:
        return await _exchanged(data, size, method)
    except PortFailure:
        return None


async def _exchanged(data: bytes, size: int, method: str) -> Answer:
    server: Any = Server(data, size)
    exchange = Exchange(PortStream(server))
    await exchange.ask(method, "/", [(b"host", b"x")])
    await exchange.send(b"", more=False)
    head = await exchange.head(5)
    headers = PortHeaders().outwards(head.headers, "/", PREFIX)
    if method == "HEAD" or head.status in BODILESS:
        return head, headers, b""
    return head, headers, b"".join([piece async for piece in exchange.body(5)])


@EXAMPLES
@given(ANSWERS, st.integers(1, 40), st.sampled_from(["GET", "HEAD", "POST"]))
def test_answers(data: bytes, size: int, method: str) -> None:
    answer = asyncio.run(exchanged(data, size, method))
    if answer is None:
        return
    head, headers, body = answer
    assert 200 <= head.status < 600
    for name, value in headers:
        assert not HEADER_RE.search(name)
        assert not HEADER_VALUE_RE.search(value)
        assert name in PortHeaders()._out | KNOWN | {b"location"}
        assert name != b"location" or value.startswith(f"{PREFIX}/".encode())
    if method != "HEAD" and head.length is not None:
        assert len(body) == head.length


async def messages(data: bytes, size: int) -> tuple[Close, list[Message]]:
    server: Any = Server(data, size, answer=True)
    inner = _Inner(PortStream(server), PortLimits(answer_seconds=5, idle_seconds=5, message_bytes=100), [])
    await inner.open(PortTarget("token", "/"), {"type": "websocket", "headers": []})
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    return await inner.forward_out(send), sent


FRAMES = st.lists(
    st.one_of(
        st.builds(
            lambda first, content: bytes([first, len(content)]) + content,
            st.sampled_from([0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x83, 0x88, 0x89, 0x8A, 0xC1]),
            st.one_of(
                st.binary(max_size=30), st.just(b"a" * 90), st.just(b"\x03\xe8bye"), st.just("é".encode())
            ),
        ),
        st.binary(max_size=6),
    ),
    max_size=8,
).map(b"".join)


@EXAMPLES
@given(FRAMES, st.integers(1, 40))
@example(b"\x81\x01\xff\x88\x00", 40)  # not valid UTF-8, and closed at once
def test_frames(data: bytes, size: int) -> None:
    close, sent = asyncio.run(messages(data, size))
    close.check()  # raises for a code that must not be sent
    for message in sent:
        content = message.get("bytes", message.get("text"))
        assert content is not None
        assert len(content) <= 100
