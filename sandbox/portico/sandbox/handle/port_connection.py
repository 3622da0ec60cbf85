"""A TCP connection from the owner to a port inside a sandbox."""

from collections.abc import AsyncIterator

from portico.sandbox.handle.call import Call
from portico.sandbox.inside import wire


class Connection:
    """A byte stream: read until b"", write, and close. Flow control bounds the bytes in flight in both
    directions.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._frames = call.frames()

    @classmethod
    async def open(cls, call: Call) -> "Connection":
        """Waits until the connection is made. Raises PortRefused."""
        connection = cls(call)
        async for kind, _ in connection._frames:
            if kind == wire.EVENT:
                return connection
        await call.answer()  # the call ended before it was connected: this raises the reason
        return connection

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, so that nothing can be sent."""
        return self._call.ended

    async def read(self) -> bytes:
        """Returns the next bytes; b"" at the end. Raises PortRefused when the connection was reset."""
        async for kind, payload in self._frames:
            if kind == wire.OUT:
                return payload
            if kind == wire.EVENT and self._call.read(payload).text("type") == "eof":
                return b""
        await self._call.answer()
        return b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    async def write(self, data: bytes) -> None:
        """Sends bytes, waiting for room in the flow-control window."""
        await self._call.send(data)

    def end_write(self) -> None:
        """Closes the sending direction."""
        self._call.end_input()

    async def close(self) -> None:
        """Closes the connection."""
        if not self._call.ended:
            await self._call.abort(0)
