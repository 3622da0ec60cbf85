"""A connection to a port as a stream of bytes with an idle timeout."""

import asyncio

from portico.client.sandbox_streams import PortConnection
from portico.gateways.sse.ports.proxy_errors import timeout_error


class PortStream:
    """Reads and writes bytes. Reading times out when bytes move in neither direction."""

    def __init__(self, connection: PortConnection) -> None:
        self._connection = connection
        self._reading: asyncio.Task[bytes] | None = None
        self._moved = asyncio.get_running_loop().time()

    async def write(self, data: bytes) -> None:
        """Raises PorticoError. The caller writes one piece at a time."""
        if data:
            await self._connection.write(data)
            self._moved = asyncio.get_running_loop().time()

    async def read(self, seconds: float | None) -> bytes:
        """The next bytes; b"" at the end. Raises PorticoError, and PortFailure when no byte has come or
        been accepted for so many seconds."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._connection.read())
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not self._reading.done():
            left = None if seconds is None else max(began, self._moved) + seconds - loop.time()
            if left is not None and left <= 0:
                assert seconds is not None
                raise timeout_error(seconds)
            # Not asyncio.timeout: a read that is cancelled ends the whole connection.
            await asyncio.wait({self._reading}, timeout=left)
        reading, self._reading = self._reading, None
        return reading.result()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._connection.close()
