"""Bidirectional streams into a sandbox: terminals and connections to ports."""

from collections.abc import AsyncGenerator
from typing import Any

from portico.client.connection import Calls
from portico.client.errors import typed_errors
from portico.v1 import sandbox_pb2


class Terminal:
    """A terminal: iterate over its output until its end; write its input."""

    def __init__(self, call: Any) -> None:
        self._call = call

    @classmethod
    async def open(cls, calls: Calls, start: sandbox_pb2.TerminalStart) -> "Terminal":
        with typed_errors():
            call = calls.connection.sandboxes.OpenTerminal(metadata=calls.metadata)
            await call.write(sandbox_pb2.OpenTerminalRequest(start=start))
        return cls(call)

    async def read(self) -> sandbox_pb2.OpenTerminalResponse | None:
        """Returns output, then the end of the terminal, then None. Raises PorticoError."""
        with typed_errors():
            item = await self._call.read()
        return item if isinstance(item, sandbox_pb2.OpenTerminalResponse) else None

    async def write(self, data: bytes) -> None:
        """Writes input to the terminal."""
        with typed_errors():
            await self._call.write(sandbox_pb2.OpenTerminalRequest(input=data))

    async def resize(self, rows: int, columns: int) -> None:
        """Sets the size of the terminal's window."""
        size = sandbox_pb2.TerminalSize(rows=rows, columns=columns)
        with typed_errors():
            await self._call.write(sandbox_pb2.OpenTerminalRequest(size=size))

    async def close(self) -> None:
        """Ends the terminal and all that runs in it."""
        self._call.cancel()

    async def __aiter__(self) -> AsyncGenerator[sandbox_pb2.OpenTerminalResponse, None]:
        while (item := await self.read()) is not None:
            yield item

    async def __aenter__(self) -> "Terminal":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


class PortConnection:
    """A TCP connection to a port in a sandbox."""

    def __init__(self, call: Any) -> None:
        self._call = call

    @classmethod
    async def open(cls, calls: Calls, start: sandbox_pb2.PortStart) -> "PortConnection":
        """Opens the connection; returns when it is established."""
        with typed_errors():
            call = calls.connection.sandboxes.ConnectPort(metadata=calls.metadata)
            try:
                await call.write(sandbox_pb2.ConnectPortRequest(start=start))
                await call.read()  # the empty response; raises the cause if there is none
            except BaseException:
                call.cancel()
                raise
        return cls(call)

    async def read(self) -> bytes:
        """Returns the next bytes; b"" at the end. Raises PorticoError."""
        with typed_errors():
            item = await self._call.read()
        return item.data if isinstance(item, sandbox_pb2.ConnectPortResponse) else b""

    async def write(self, data: bytes) -> None:
        with typed_errors():
            await self._call.write(sandbox_pb2.ConnectPortRequest(data=data))

    async def end_write(self) -> None:
        """Ends this side's direction of the connection."""
        with typed_errors():
            await self._call.done_writing()

    async def close(self) -> None:
        self._call.cancel()

    async def __aenter__(self) -> "PortConnection":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
