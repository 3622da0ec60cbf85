"""An HTTP/1.1 connection that writes once per turn of the event loop.

A protocol that wants each of its frames in a chunk of its own sends many small bodies at once; a system call
for each of them would cost more than all the rest. Once an answer has begun, `Chunks` write them without a
turn of the loop, and without ASGI's messages.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from starlette.types import Scope
from uvicorn.protocols.http.flow_control import FlowControl

from portico.gateways.http.bounded import BoundedProtocol

CHUNKS = "portico.chunks"  # among an ASGI scope's extensions


class Cork:
    """What one event loop's connections keep until its next turn."""

    def __init__(self) -> None:
        self._held: list[CorkedTransport] = []

    def hold(self, transport: "CorkedTransport") -> None:
        if not self._held:
            asyncio.get_running_loop().call_soon(self._pull)
        self._held.append(transport)

    def _pull(self) -> None:
        held, self._held = self._held, []
        # In one go: a reader of several that the first has woken is still awake for the others.
        for transport in held:
            try:
                transport.flush()
            except Exception as error:
                transport.abort()
                problem = {"message": "a write failed", "exception": error, "transport": transport}
                asyncio.get_running_loop().call_exception_handler(problem)


class CorkedTransport(asyncio.Transport):
    """A transport that keeps what is written until the loop's next turn. All else is the inner one's."""

    def __init__(self, inner: asyncio.Transport, cork: Cork) -> None:
        super().__init__()
        self._inner = inner
        self._cork = cork
        self._parts: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            self.write_parts((bytes(data),))

    def write_parts(self, parts: Iterable[bytes]) -> None:
        """One part at least, none of which is empty."""
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
    """The way around ASGI's `send` for an answer that has begun in chunks, and has not ended."""

    __slots__ = ("_transport", "flow")

    def __init__(self, transport: CorkedTransport, flow: FlowControl) -> None:
        self._transport = transport
        self.flow = flow

    def write(self, pieces: Iterable[bytes | None]) -> None:
        """Each piece that is not empty in a chunk of its own; all of them at once."""
        parts: list[bytes] = []
        for piece in pieces:
            if piece:
                parts += (b"%x\r\n" % len(piece), piece, b"\r\n")
        if parts:
            self._transport.write_parts(parts)

    def abort(self) -> None:
        """Close the connection without ending the answer, so that the client sees it as incomplete."""
        self._transport.abort()


class CorkedProtocol(BoundedProtocol):
    """The bounded HTTP protocol on such a transport."""

    _corks: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Cork]] = WeakKeyDictionary()
    _chunks: Chunks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        corked = CorkedTransport(transport, self._corks.setdefault(self.loop, Cork()))
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
    """None on a server that is not this one."""
    chunks: Chunks | None = scope.get("extensions", {}).get(CHUNKS, {}).get("chunks")
    return chunks


def head_of(scope: Scope) -> list[tuple[bytes, bytes]] | None:
    """Fields that the answer's head will have beside the application's; they may be changed until it begins.
    None on a server that is not this one."""
    head: list[tuple[bytes, bytes]] | None = scope.get("extensions", {}).get(CHUNKS, {}).get("head")
    return head


def abort_connection(scope: Scope) -> None:
    """Close the connection of a request whose answer has begun and cannot be completed."""
    if (chunks := chunks_of(scope)) is not None:
        chunks.abort()
