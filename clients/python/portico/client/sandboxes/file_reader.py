"""Reads a file of a sandbox as a stream."""

from collections.abc import AsyncGenerator
from typing import Any

from portico.client.connection import Calls
from portico.client.errors import typed_errors
from portico.v1 import sandbox_pb2


class FileReader:
    """Iterates over a file's bytes; `file`, `offset` and `length` describe them from the start."""

    def __init__(self, call: Any, first: sandbox_pb2.ReadFileResponse) -> None:
        self._call = call
        self._data = first.data
        self.file = first.opened.file
        self.offset = first.opened.offset
        self.length = first.opened.length

    @classmethod
    async def open(cls, calls: Calls, request: sandbox_pb2.ReadFileRequest) -> "FileReader":
        """Opens the file. Raises PorticoError."""
        with typed_errors():
            call: Any = calls.connection.sandboxes.ReadFile(request, metadata=calls.metadata)
            try:
                first = await call.read()
            except BaseException:
                call.cancel()
                raise
        return cls(call, first or sandbox_pb2.ReadFileResponse())

    async def read(self) -> bytes:
        """Returns the next bytes; b"" at the end. Raises PorticoError, also when the file has become
        shorter.
        """
        data, self._data = self._data, b""
        with typed_errors():
            while not data and (piece := await self._call.read()):
                data = piece.data
        return data

    async def close(self) -> None:
        self._call.cancel()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        while data := await self.read():
            yield data

    async def __aenter__(self) -> "FileReader":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
