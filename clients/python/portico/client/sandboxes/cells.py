"""Executes the cells of one sandbox over one stream."""

from collections.abc import AsyncGenerator
from typing import Any

from portico.client.connection import Calls
from portico.client.convert import to_duration
from portico.client.errors import Cancelled, ProtocolError, typed_errors
from portico.v1 import sandbox_pb2


class Cells:
    """Executes cells one after the other, at a fraction of the cost of one call for each.

    Use `async with`. The sandbox continues to exist afterwards, even if it was created for this stream.
    """

    def __init__(self, calls: Calls, first: sandbox_pb2.RunCellsRequest) -> None:
        self._calls = calls
        self._first: sandbox_pb2.RunCellsRequest | None = first
        self._call: Any = None
        self._sandbox: sandbox_pb2.Sandbox | None = None
        self._closed = False

    async def sandbox(self) -> sandbox_pb2.Sandbox:
        """Returns the sandbox, created if necessary. Raises PorticoError."""
        if self._first is not None:
            await self._send(sandbox_pb2.RunCellsRequest())
        if self._sandbox is None:
            self._sandbox = (await self._read()).sandbox
        return self._sandbox

    async def run(
        self, code: str, *, timeout: float | None = None, allow_input: bool = False
    ) -> AsyncGenerator[sandbox_pb2.RunCellResponse, None]:
        """Executes a cell and yields its events; the last event is its end.

        Leaving the iteration before the end interrupts the cell and ends the stream. With allow_input,
        input() yields an `input` event: call `answer`, and continue to iterate. The timeout is in
        seconds. Raises PorticoError.
        """
        duration = None if timeout is None else to_duration(timeout)
        ended = False
        try:
            request = sandbox_pb2.RunCellsRequest(code=code, timeout=duration, allow_input=allow_input)
            await self._send(request)
            if self._sandbox is None:
                await self.sandbox()
            while not ended:
                item = (await self._read()).cell
                more = list(item.more)
                item.ClearField("more")
                for event in (item, *more):
                    ended = event.HasField("end")
                    yield event
        finally:
            if not ended:
                await self.close()

    async def answer(self, text: str | None) -> None:
        """Answers the last `input` event; None is the end of input. Raises PorticoError."""
        told = sandbox_pb2.CellAnswer(text=text or "", eof=text is None)
        await self._send(sandbox_pb2.RunCellsRequest(answer=told))

    async def close(self) -> None:
        """Ends the stream, but not the sandbox."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()

    async def _send(self, request: sandbox_pb2.RunCellsRequest) -> None:
        if self._closed:
            raise Cancelled("the stream is closed")
        if self._first is not None:
            request.MergeFrom(self._first)
            self._first = None
        with typed_errors():
            if self._call is None:
                self._call = self._calls.connection.sandboxes.RunCells(metadata=self._calls.metadata)
            await self._call.write(request)

    async def _read(self) -> sandbox_pb2.RunCellsResponse:
        with typed_errors():
            item = await self._call.read()
        if not isinstance(item, sandbox_pb2.RunCellsResponse):
            raise ProtocolError("the stream ended before the cell had")
        return item

    async def __aenter__(self) -> "Cells":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
