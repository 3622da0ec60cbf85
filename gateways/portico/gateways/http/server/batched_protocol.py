"""HTTP/1.1 connections that write once per turn of the event loop.

A protocol that needs each frame in its own chunk writes many small bodies at once; one system call for each
would cost more than all other work. Once an answer has begun, `Chunks` writes them without a turn of the loop
and without ASGI messages.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from starlette.types import Scope
from uvicorn.protocols.http.flow_control import FlowControl

from portico.gateways.http.server.limited_protocol import LimitedProtocol

CHUNKS = "portico.chunks"  # key among an ASGI scope's extensions


class WriteBatch:
    """Collects the transports of one event loop that have data to write in its next turn."""

    def __init__(self) -> None:
        self._held: list[BatchedTransport] = []

    def hold(self, transport: "BatchedTransport") -> None:
        """Schedules a flush of the transport in the loop's next turn."""
        if not self._held:
            asyncio.get_running_loop().call_soon(self._pull)
        self._held.append(transport)

    def _pull(self) -> None:
        held, self._held = self._held, []
        # All in one pass: a process that reads several of them is woken once.
        for transport in held:
            try:
                transport.flush()
            except Exception as error:
                transport.abort()
                problem = {"message": "a write failed", "exception": error, "transport": transport}
                asyncio.get_running_loop().call_exception_handler(problem)


class BatchedTransport(asyncio.Transport):
    """A transport that buffers writes until the loop's next turn. Everything else is forwarded to the inner
    transport.
    """

    def __init__(self, inner: asyncio.Transport, cork: WriteBatch) -> None:
        super().__init__()
        self._inner = inner
        self._cork = cork
        self._parts: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            self.write_parts((bytes(data),))

    def write_parts(self, parts: Iterable[bytes]) -> None:
        """Buffers at least one part; no part may be empty."""
        if not self._parts:
            self._cork.hold(self)
        self._parts += parts

    def flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._inner.is_closing():
            self._inner.write(b"".join(parts))

    def close(self) -> None:
        self.flush()
        self._inner.close()

    def abort(self) -> None:
        self._parts = []
        self._inner.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._inner.is_closing()

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._inner.resume_reading()

    def is_reading(self) -> bool:
        return self._inner.is_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inner.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._inner.get_protocol()

    def get_write_buffer_size(self) -> int:
        return self._inner.get_write_buffer_size() + sum(map(len, self._parts))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._inner.set_write_buffer_limits(high, low)


class Chunks:
    """Writes the body of a chunked answer that has begun and not ended, without ASGI's `send`."""

    __slots__ = ("_transport", "flow")

    def __init__(self, transport: BatchedTransport, flow: FlowControl) -> None:
        self._transport = transport
        self.flow = flow

    def write(self, pieces: Iterable[bytes | None]) -> None:
        """Writes all pieces at once, each non-empty piece in a chunk of its own."""
        parts: list[bytes] = []
        for piece in pieces:
            if piece:
                parts += (b"%x\r\n" % len(piece), piece, b"\r\n")
        if parts:
            self._transport.write_parts(parts)

    def abort(self) -> None:
        """Closes the connection without ending the answer, so that the client sees an incomplete answer."""
        self._transport.abort()


class BatchedProtocol(LimitedProtocol):
    """LimitedProtocol on a BatchedTransport."""

    _corks: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, WriteBatch]] = WeakKeyDictionary()
    _chunks: Chunks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        corked = BatchedTransport(transport, self._corks.setdefault(self.loop, WriteBatch()))
        super().connection_made(corked)
        self._chunks = Chunks(corked, self.flow)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CHUNKS: {"chunks": self._chunks}}

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if (cycle := self.cycle) is not None and cycle.scope is self.scope:
            self.scope["extensions"][CHUNKS]["head"] = cycle.default_headers = [*cycle.default_headers]


def chunks_of(scope: Scope) -> Chunks | None:
    """Returns the request's chunk writer; None on a server that does not use BatchedProtocol."""
    chunks: Chunks | None = scope.get("extensions", {}).get(CHUNKS, {}).get("chunks")
    return chunks


def head_of(scope: Scope) -> list[tuple[bytes, bytes]] | None:
    """Returns header fields that the answer will have in addition to the application's. The list may be
    changed until the answer begins. None on a server that does not use BatchedProtocol.
    """
    head: list[tuple[bytes, bytes]] | None = scope.get("extensions", {}).get(CHUNKS, {}).get("head")
    return head


def abort_connection(scope: Scope) -> None:
    """Closes the connection of a request whose answer has begun and cannot be completed."""
    if (chunks := chunks_of(scope)) is not None:
        chunks.abort()
