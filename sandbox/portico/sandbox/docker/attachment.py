"""The standard streams of a container in the engine's encoding: plain input, and output in frames."""

import asyncio
import struct
from collections.abc import Callable
from typing import Final

from portico.sandbox import errors
from portico.sandbox.handle.channel import Channel

_HEADER: Final = struct.Struct("!BxxxI")
_STDOUT: Final = 1
_LONGEST: Final = 1 << 20  # bytes of one frame; the engine sends 32 KiB


class Attachment(asyncio.Protocol):
    """Removes the engine's frame headers and passes the supervisor's output to the channel."""

    def __init__(self, channel: Channel, on_lost: Callable[[], None]) -> None:
        self._channel = channel
        self._on_lost = on_lost
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._channel.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()

    def pause_writing(self) -> None:
        self._channel.pause_writing()

    def resume_writing(self) -> None:
        self._channel.resume_writing()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _HEADER.size:
            stream, size = _HEADER.unpack_from(buffer, start)
            if size > _LONGEST:
                self._channel.lost(errors.SandboxGone("the engine broke its protocol", "killed"))
                return
            end = start + _HEADER.size + size
            if len(buffer) < end:
                break
            if stream == _STDOUT:
                self._channel.data_received(bytes(buffer[start + _HEADER.size : end]))
            start = end
        del buffer[:start]
