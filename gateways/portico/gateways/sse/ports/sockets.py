"""WebSockets to a server inside (RFC 6455): messages are carried whole, within a size, one at a time.

Nothing about a caller goes inside but what it says, and no extension is agreed on. Who knows the path may
connect, from whatever page: there is neither cookie nor credential that such a page could borrow.
"""

import asyncio
import logging
import re
from typing import Final

from starlette.types import Receive, Scope, Send
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, ProtocolError
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import CONNECTING, OPEN
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from portico.client import PorticoError
from portico.gateways.sse.ports.errors import PortFailure, broken
from portico.gateways.sse.ports.exchange import HEAD_BYTES, STATUSES_REFUSED
from portico.gateways.sse.ports.limits import PortLimits
from portico.gateways.sse.ports.place import Place
from portico.gateways.sse.ports.stream import PortStream

_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_SLICE: Final = 4096  # bytes that are parsed before others have their turn: frames may be of two
_CONTENT: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_NO_CODE: Final = (CloseCode.NO_STATUS_RCVD, CloseCode.ABNORMAL_CLOSURE)  # they stand for a missing code
_BROKEN: Final = Close(CloseCode.BAD_GATEWAY, "")
_log = logging.getLogger("portico.gateways.ports.websocket")
_log.setLevel(logging.WARNING)  # frames are nobody's business but their ends'


async def carry_socket(
    stream: PortStream, place: Place, limits: PortLimits, scope: Scope, receive: Receive, send: Send
) -> None:
    """Connect inside, accept the caller, and carry messages until one of them has enough."""
    await receive()  # websocket.connect
    try:
        inner = _Inner(stream, limits, scope["subprotocols"])
        subprotocol = await inner.open(place, scope)
    except PortFailure as failure:
        await failure.response()(scope, receive, send)
        return
    await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
    inwards = asyncio.create_task(inner.take_in(receive))
    outwards = asyncio.create_task(inner.take_out(send))
    try:
        done, _ = await asyncio.wait({inwards, outwards}, return_when=asyncio.FIRST_COMPLETED)
        ending = (outwards if outwards in done else inwards).result()
        if ending is not None:
            await send({"type": "websocket.close", "code": ending.code, "reason": ending.reason})
    except OSError:
        pass  # ASGI's way to say that the caller has left
    finally:
        inwards.cancel()
        outwards.cancel()
        await asyncio.gather(inwards, outwards, return_exceptions=True)


class _Inner:
    """The client's end of a WebSocket inside."""

    def __init__(self, stream: PortStream, limits: PortLimits, subprotocols: list[str]) -> None:
        """Raises PortFailure for subprotocols that are none."""
        if not all(_TOKEN.fullmatch(name) for name in subprotocols):
            raise PortFailure(400, "BAD_REQUEST", "sec-websocket-protocol is not a list of tokens")
        self._stream = stream
        self._protocol = ClientProtocol(
            WebSocketURI(False, "localhost", 80, "/", ""),
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            max_size=limits.message_bytes,
            logger=_log,
        )
        self._limits = limits
        self._unparsed = b""
        self._writing = asyncio.Lock()

    async def open(self, place: Place, scope: Scope) -> str | None:
        """The handshake; returns the subprotocol. Raises PortFailure."""
        request = self._protocol.connect()
        request.path = place.target
        for name, value in self._limits.headers.inwards(scope["headers"], place.prefix):
            if name != b"host" and value.isascii():
                request.headers[name.decode()] = value.decode()
        self._protocol.send_request(request)
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.answer_seconds
        left = HEAD_BYTES // _SLICE
        try:
            await self._flush()
            while self._protocol.state is CONNECTING:
                if left == 0:
                    raise broken("the server inside answered a handshake with too much")
                await self._step(max(until - loop.time(), 0))
                if (error := self._protocol.handshake_exc) is not None:
                    raise _refused(error)
                left -= 1
        except (PorticoError, TimeoutError):
            raise broken("the server inside hung up in the handshake") from None
        return self._protocol.subprotocol

    async def take_in(self, receive: Receive) -> Close | None:
        """The caller's messages; returns how the connection to it is to end, None when it has left."""
        try:
            while (message := await receive())["type"] == "websocket.receive":
                text = message.get("text")
                content: bytes = message["bytes"] if text is None else text.encode()
                if len(content) > self._limits.message_bytes:
                    return Close(CloseCode.MESSAGE_TOO_BIG, "")
                if self._protocol.state is not OPEN:
                    continue  # until take_out has said why
                (self._protocol.send_binary if text is None else self._protocol.send_text)(content)
                await self._flush()
            if self._protocol.state is OPEN:
                self._end(message.get("code") or CloseCode.NO_STATUS_RCVD, message.get("reason") or "")
                await self._flush()
        except (PorticoError, TimeoutError):
            return _BROKEN
        return None

    async def take_out(self, send: Send) -> Close:
        """The messages from inside; returns how they end."""
        content = bytearray()
        kind = "bytes"
        try:
            while True:
                for event in self._protocol.events_received():
                    if not isinstance(event, Frame) or event.opcode not in _CONTENT:
                        continue
                    if event.opcode is not Opcode.CONT:
                        kind = "text" if event.opcode is Opcode.TEXT else "bytes"
                    content += event.data
                    if event.fin:
                        whole = bytes(content)
                        content.clear()
                        await send(
                            {"type": "websocket.send", kind: whole.decode() if kind == "text" else whole}
                        )
                await self._flush()
                if self._protocol.state is not OPEN or self._protocol.parser_exc is not None:
                    return self._ending()
                await self._step(None)
        except UnicodeDecodeError:
            self._end(CloseCode.INVALID_DATA, "")
            await self._flush()
            return Close(CloseCode.INVALID_DATA, "")
        except (PorticoError, TimeoutError):
            return _BROKEN

    async def _step(self, seconds: float | None) -> None:
        """Parse the next bytes. Raises PorticoError, PortFailure."""
        if self._unparsed:
            await asyncio.sleep(0)
        else:
            self._unparsed = await self._stream.read(seconds)
        if self._unparsed:
            self._protocol.receive_data(self._unparsed[:_SLICE])
            self._unparsed = self._unparsed[_SLICE:]
        else:
            self._protocol.receive_eof()

    async def _flush(self) -> None:
        """Raises PorticoError, and TimeoutError when the server inside takes nothing for so long."""
        async with self._writing, asyncio.timeout(self._limits.idle_seconds):
            await self._stream.write(b"".join(self._protocol.data_to_send()))

    def _end(self, code: int, reason: str) -> None:
        try:
            self._protocol.send_close(None if code in _NO_CODE else code, "" if code in _NO_CODE else reason)
        except ProtocolError:
            self._protocol.send_close(CloseCode.GOING_AWAY)

    def _ending(self) -> Close:
        """What the caller is told of it."""
        told = self._protocol.close_rcvd
        if told is not None:
            return Close(CloseCode.NORMAL_CLOSURE, "") if told.code in _NO_CODE else told
        sent = self._protocol.close_sent
        if sent is not None and sent.code == CloseCode.MESSAGE_TOO_BIG:
            return Close(sent.code, "")
        return _BROKEN


def _refused(error: Exception) -> PortFailure:
    if isinstance(error, InvalidStatus) and 400 <= error.response.status_code < 500:
        status = error.response.status_code
        if status not in STATUSES_REFUSED:
            words = f"the server inside refused the WebSocket with the status {status}"
            return PortFailure(status, "PORT_HANDSHAKE", words)
    return broken("the server inside does not speak WebSocket here")
