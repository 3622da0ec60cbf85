"""One HTTP/1.1 request to a server in a sandbox, and its strictly checked answer."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

import h11

from portico.client import PorticoError
from portico.gateways.sse.ports.port_stream import PortStream
from portico.gateways.sse.ports.proxy_errors import PortFailure, protocol_error

HEAD_BYTES: Final = 64 << 10
_INTERIM: Final = 16  # the most 1xx answers before the final one
_STATUSES: Final = range(200, 600)
# these statuses are about proxies and connections, which are the gateway's
STATUSES_REFUSED: Final = (407, 421)
BODILESS: Final = (204, 205, 304)
_MAX_LENGTH: Final = 1 << 63
_TURN: Final = 256  # pieces of a body parsed before other tasks run


@dataclass(frozen=True, slots=True)
class Head:
    """Status and header fields of an answer. `length` is the declared length of its body in bytes, None
    without one.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    length: int | None


class Exchange:
    """A request and its answer. The request may be sent while its answer is read; read `head` before
    `body`.
    """

    def __init__(self, stream: PortStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        self._method = ""

    async def ask(self, method: str, target: str, headers: list[tuple[bytes, bytes]]) -> None:
        """Sends the request's head. Raises PortFailure (400), PorticoError."""
        self._method = method
        headers = [*headers, (b"connection", b"close")]
        try:
            data = self._http.send(h11.Request(method=method, target=target, headers=headers))
        except h11.LocalProtocolError:
            raise PortFailure(400, "BAD_REQUEST", "the request cannot be expressed in HTTP/1.1") from None
        await self._stream.write(data or b"")

    async def send(self, data: bytes, *, more: bool) -> None:
        """Sends a piece of the request's body. Raises PorticoError."""
        try:
            told = self._http.send(h11.Data(data=data)) if data else b""
            told = (told or b"") + (b"" if more else self._http.send(h11.EndOfMessage()) or b"")
        except h11.LocalProtocolError:
            return  # the answer broke the protocol; its reader raises the error
        await self._stream.write(told)

    async def head(self, seconds: float) -> Head:
        """Reads the answer's head within `seconds` after the last accepted byte of the request.

        Raises PortFailure.
        """
        loop = asyncio.get_running_loop()
        until: float | None = None
        for _ in range(_INTERIM):
            while (event := self._next()) is h11.NEED_DATA:
                left = seconds if until is None else min(seconds, until - loop.time())
                await self._receive(max(left, 0))
                # The limit applies to the whole head from its first byte, so that a slow sender cannot extend
                # it.
                until = until or loop.time() + seconds
            if isinstance(event, h11.Response):
                return self._checked(event)
            if not isinstance(event, h11.InformationalResponse):
                break
        raise protocol_error("the server in the sandbox sent no answer")

    async def body(self, seconds: float) -> AsyncGenerator[bytes, None]:
        """Yields the body in pieces. Raises PortFailure when its framing is invalid or no byte moves for
        `seconds`.
        """
        while True:
            piece = bytearray()
            event: Any = None
            for _ in range(_TURN):
                event = self._next()
                if not isinstance(event, h11.Data):
                    break
                piece += event.data
            if piece:
                yield bytes(piece)
            if isinstance(event, h11.EndOfMessage):
                return
            if event is h11.NEED_DATA:
                await self._receive(seconds)
            elif isinstance(event, h11.Data):
                await asyncio.sleep(0)
            else:
                raise protocol_error("the server in the sandbox closed the connection too early")

    def _next(self) -> Any:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError:
            raise protocol_error("the server in the sandbox did not answer with HTTP/1.1") from None

    async def _receive(self, seconds: float) -> None:
        try:
            self._http.receive_data(await self._stream.read(seconds))
        except PorticoError:
            raise protocol_error("the server in the sandbox closed the connection too early") from None

    def _checked(self, response: h11.Response) -> Head:
        status = response.status_code
        if status not in _STATUSES or status in STATUSES_REFUSED:
            raise protocol_error(
                f"the server in the sandbox answered with the status {status}, which may not pass"
            )
        if sum(len(name) + len(value) for name, value in response.headers) > HEAD_BYTES:
            raise protocol_error(f"the head of the answer from the sandbox is larger than {HEAD_BYTES} bytes")
        framing = {name: value for name, value in response.headers if name in _FRAMING}
        if len(framing) > 1 or (b"transfer-encoding" in framing and response.http_version < b"1.1"):
            raise protocol_error(
                "the answer from the sandbox has conflicting content-length and transfer-encoding"
            )
        length = int(framing.get(b"content-length", b"-1"))
        if length >= _MAX_LENGTH:
            raise protocol_error("the answer from the sandbox has an impossible content-length")
        headers = [(name, value) for name, value in response.headers if name not in _FRAMING]
        return Head(status, headers, None if length < 0 or status in BODILESS else length)


_FRAMING: Final = (b"content-length", b"transfer-encoding")
