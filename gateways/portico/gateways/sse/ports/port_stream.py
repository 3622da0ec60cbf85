"""A connection to a port as a byte stream with an idle timeout."""

import asyncio

from portico.client.sandboxes.streams import PortConnection
from portico.gateways.sse.ports.proxy_errors import timeout_error


class PortStream:
    """Reads and writes bytes. Reading times out when no byte moves in either direction."""

    def __init__(self, connection: PortConnection) -> None:
        self._connection = connection
        self._reading: asyncio.Task[bytes] | None = None
        self._moved = asyncio.get_running_loop().time()

    async def write(self, data: bytes) -> None:
        """Writes the bytes; only one write at a time. Raises PorticoError."""
        if data:
            await self._connection.write(data)
            self._moved = asyncio.get_running_loop().time()

    async def read(self, seconds: float | None) -> bytes:
        """Returns the next bytes; b"" at the end. Raises PorticoError, and PortFailure when no byte has
        arrived or been accepted for `seconds`.
        """
        if self._reading is None:
            self._reading = asyncio.create_task(self._connection.read())
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not self._reading.done():
            left = None if seconds is None else max(began, self._moved) + seconds - loop.time()
            if left is not None and left <= 0:
                assert seconds is not None
                raise timeout_error(seconds)
            # Not asyncio.timeout: cancelling a read ends the whole connection.
            await asyncio.wait({self._reading}, timeout=left)
        reading, self._reading = self._reading, None
        return reading.result()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._connection.close()
