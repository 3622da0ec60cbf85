"""A TCP connection across the wall, as bytes."""

from collections.abc import AsyncIterator

from portico.sandbox.channel import Call
from portico.sandbox.inside import wire


class Connection:
    """Read until b"", write, and close. Both directions hold only so much before they make the other side
    wait.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._frames = call.frames()

    @classmethod
    async def open(cls, call: Call) -> "Connection":
        connection = cls(call)
        async for kind, _ in connection._frames:
            if kind == wire.EVENT:
                return connection
        await call.answer()  # it ended before it was connected: this raises why
        return connection

    @property
    def closed(self) -> bool:
        """Whether the other side has gone, and nothing can be sent to it any more."""
        return self._call.ended

    async def read(self) -> bytes:
        """The next bytes; b"" when the other side will send no more. Raises PortRefused when it broke off."""
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
        await self._call.send(data)

    def end_write(self) -> None:
        self._call.end_input()

    async def close(self) -> None:
        if not self._call.ended:
            await self._call.abort(0)
