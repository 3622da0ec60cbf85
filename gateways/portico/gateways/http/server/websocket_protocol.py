"""WebSocket connections with bounded memory.

uvicorn answers pings whether or not the client reads the answers, and keeps each fragment of a message as an
object of its own: a client that never reads, or sends fragments of one byte, could fill the memory.
"""

from asyncio import BaseTransport

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame


class LimitedWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol with flow control in both directions, joined fragments and refused handshakes."""

    _message: bytearray

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self._message = bytearray()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    def handle_text(self, event: Frame) -> None:
        super().handle_text(event)
        self._message = bytearray(event.data)

    def handle_bytes(self, event: Frame) -> None:
        super().handle_bytes(event)
        self._message = bytearray(event.data)

    def handle_cont(self, event: Frame) -> None:
        self._message += event.data
        if event.fin:
            self.frames = [bytes(self._message)]
            self._message.clear()
            self.send_receive_event_to_app()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # the refusal is the answer; uvicorn would log that none was sent
