"""Forwards WebSockets to a server in a sandbox (RFC 6455), as whole messages of a limited size.

The proxy offers no extension and passes no credential. It does not check the Origin: the path is the only
credential, and there is no cookie that a page of another site could use with it.
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
from portico.gateways.sse.ports.http_exchange import HEAD_BYTES, STATUSES_REFUSED
from portico.gateways.sse.ports.port_stream import PortStream
from portico.gateways.sse.ports.port_target import PortTarget
from portico.gateways.sse.ports.proxy_errors import PortFailure, protocol_error
from portico.gateways.sse.ports.proxy_limits import PortLimits

_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_SLICE: Final = 4096  # bytes parsed before other tasks run: a frame may have only two
_CONTENT: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_NO_CODE: Final = (CloseCode.NO_STATUS_RCVD, CloseCode.ABNORMAL_CLOSURE)  # placeholders for a missing code
_BROKEN: Final = Close(CloseCode.BAD_GATEWAY, "")
_log = logging.getLogger("portico.gateways.ports.websocket")
_log.setLevel(logging.WARNING)  # no log line for each frame


async def forward_socket(
    stream: PortStream, target: PortTarget, limits: PortLimits, scope: Scope, receive: Receive, send: Send
) -> None:
    """Opens a WebSocket to the sandbox, accepts the caller's, and forwards messages until one side closes."""
    await receive()  # websocket.connect
    try:
        inner = _Inner(stream, limits, scope["subprotocols"])
        subprotocol = await inner.open(target, scope)
    except PortFailure as failure:
        await failure.response()(scope, receive, send)
        return
    await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
    inwards = asyncio.create_task(inner.forward_in(receive))
    outwards = asyncio.create_task(inner.forward_out(send))
    try:
        done, _ = await asyncio.wait({inwards, outwards}, return_when=asyncio.FIRST_COMPLETED)
        ending = (outwards if outwards in done else inwards).result()
        if ending is not None:
            await send({"type": "websocket.close", "code": ending.code, "reason": ending.reason})
    except OSError:
        pass  # ASGI reports in this way that the caller has disconnected
    finally:
        inwards.cancel()
        outwards.cancel()
        await asyncio.gather(inwards, outwards, return_exceptions=True)


class _Inner:
    """The client side of the WebSocket to the server in the sandbox."""

    def __init__(self, stream: PortStream, limits: PortLimits, subprotocols: list[str]) -> None:
        """Raises PortFailure when a subprotocol is not a token."""
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

    async def open(self, target: PortTarget, scope: Scope) -> str | None:
        """Performs the handshake and returns the subprotocol. Raises PortFailure."""
        request = self._protocol.connect()
        request.path = target.path
        for name, value in self._limits.headers.inwards(scope["headers"], target.prefix):
            if name != b"host" and value.isascii():
                request.headers[name.decode()] = value.decode()
        self._protocol.send_request(request)
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.answer_seconds
        left = HEAD_BYTES
        try:
            await self._flush()
            while self._protocol.state is CONNECTING:
                if left <= 0:
                    raise protocol_error(
                        f"the handshake answer from the sandbox is larger than {HEAD_BYTES} bytes"
                    )
                left -= await self._step(max(until - loop.time(), 0))
                if (error := self._protocol.handshake_exc) is not None:
                    raise _refused(error)
        except (PorticoError, TimeoutError):
            raise protocol_error(
                "the server in the sandbox closed the connection during the handshake"
            ) from None
        return self._protocol.subprotocol

    async def forward_in(self, receive: Receive) -> Close | None:
        """Forwards the caller's messages. Returns the close code and reason for the caller; None if it
        disconnected.
        """
        try:
            while (message := await receive())["type"] == "websocket.receive":
                text = message.get("text")
                content: bytes = message["bytes"] if text is None else text.encode()
                if len(content) > self._limits.message_bytes:
                    return Close(CloseCode.MESSAGE_TOO_BIG, "")
                if self._protocol.state is not OPEN:
                    continue  # until forward_out has returned the close code
                (self._protocol.send_binary if text is None else self._protocol.send_text)(content)
                await self._flush()
            self._end(message.get("code") or CloseCode.NO_STATUS_RCVD, message.get("reason") or "")
            await self._flush()
        except (PorticoError, TimeoutError):
            return _BROKEN
        return None

    async def forward_out(self, send: Send) -> Close:
        """Forwards the server's messages. Returns the close code and reason for the caller."""
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

    async def _step(self, seconds: float | None) -> int:
        """Reads and parses the next bytes, and returns their number. Raises PorticoError, PortFailure."""
        if self._unparsed:
            await asyncio.sleep(0)
        else:
            self._unparsed = await self._stream.read(seconds)
        data, self._unparsed = self._unparsed[:_SLICE], self._unparsed[_SLICE:]
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        return len(data)

    async def _flush(self) -> None:
        """Writes pending data. Raises PorticoError, and TimeoutError when the server accepts nothing for
        `idle_seconds`.
        """
        async with self._writing, asyncio.timeout(self._limits.idle_seconds):
            await self._stream.write(b"".join(self._protocol.data_to_send()))

    def _end(self, code: int, reason: str) -> None:
        if self._protocol.state is not OPEN:
            return  # the server has already closed it
        try:
            self._protocol.send_close(None if code in _NO_CODE else code, "" if code in _NO_CODE else reason)
        except ProtocolError:
            self._protocol.send_close(CloseCode.GOING_AWAY)

    def _ending(self) -> Close:
        """Returns the close code and reason for the caller after the server's WebSocket has ended."""
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
            words = f"the server in the sandbox refused the WebSocket with the status {status}"
            return PortFailure(status, "PORT_HANDSHAKE", words)
    return protocol_error("the server in the sandbox does not accept WebSockets on this path")
