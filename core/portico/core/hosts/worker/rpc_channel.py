"""RPC channel: calls and streams between two processes over one socket, in both directions.

A frame is a length and an encoded tuple: its kind, the number of its call, and further values. The caller
chooses the number. A stream is pulled, one item at a time; a note has no reply. Neither side waits for the
other here: a side that sends much has its own flow-control window, and replies wait while the socket is full.
"""

import asyncio
import itertools
import os
import struct
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from portico.core.hosts.worker.codec import UndecodableMessage, decode, encode

MAX_FRAME_BYTES = 72 * 1024 * 1024  # the largest file of a sandbox, and some overhead
_HEADER = struct.Struct("!I")

ServedCall = Coroutine[Any, Any, Any] | AsyncGenerator[Any, None]


class Kind:
    """Kinds of frames; plain numbers, because each frame has one."""

    CALL = 1  # method, arguments, keyword arguments
    OPEN = 2  # the same, opens a stream
    PULL = 3
    CANCEL = 4
    REPLY = 5  # value
    RAISED = 6  # exception
    ENDED = 7
    NOTE = 8  # method, arguments


class ChannelService(Protocol):
    """The methods that one side offers to the other."""

    def serve(
        self, method: str, args: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[ServedCall, Context | None]:
        """Begin a call or a stream.

        Returns:
            A coroutine for a call, an async generator for a stream, and the context in which it runs. The
                caller gets the exceptions that it raises.
        """
        ...

    def note(self, method: str, args: tuple[Any, ...]) -> None:
        """Handle a note, a message without a reply."""
        ...


class ChannelClosed(Exception):
    """The other side has closed the channel or ended."""


class _Ended(Exception):
    """A stream has no more items."""


@dataclass(eq=False)
class _Stream:
    items: AsyncGenerator[Any, None]
    where: Context | None
    task: asyncio.Task[None] | None = field(default=None)


class WorkerChannel(asyncio.Protocol):
    """One end of a channel. Belongs to its event loop; `closed` is done when the other end is gone."""

    def __init__(self, service_of: Callable[["WorkerChannel"], ChannelService]) -> None:
        self._service = service_of(self)
        self._numbers = itertools.count()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._streams: dict[int, _Stream] = {}
        self._buffer = bytearray()
        self._writable = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._owner = os.getpid()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.problem = ""  # the other side's violation of the protocol

    @property
    def service(self) -> ChannelService:
        """The service that handles the other side's calls."""
        return self._service

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._leave_copy()
        if self.closed.done():
            return
        self.closed.set_result(None)
        self._writable.set()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(ChannelClosed())
                future.exception()
        self._calls.clear()
        for task in list(self._serving.values()):
            task.cancel()
        for number in list(self._streams):
            self._close_stream(number)

    def close(self) -> None:
        """Close at once, without sending buffered frames: the other side may no longer read."""
        if self._transport is not None:
            self._transport.abort()

    def _leave_copy(self) -> None:
        """End a process that an agent forked and that returned to the event loop: it is not a worker."""
        if os.getpid() != self._owner:
            os._exit(70)

    # Outgoing calls

    def begin(self, method: str, *args: Any, **named: Any) -> asyncio.Future[Any]:
        """Begin a call. The future raises the other side's exception, or ChannelClosed."""
        number = next(self._numbers)
        future = self._expect(number)
        self._send(Kind.CALL, number, method, args, named)
        return future

    async def call(self, method: str, *args: Any, **named: Any) -> Any:
        """Return the result of a call; cancelling it cancels the call without waiting for the call's end."""
        await self._writable.wait()
        number = next(self._numbers)
        future = self._expect(number)
        self._send(Kind.CALL, number, method, args, named)
        try:
            return await future
        except asyncio.CancelledError:
            self._send(Kind.CANCEL, number)
            raise

    async def stream(self, method: str, *args: Any, **named: Any) -> AsyncGenerator[Any, None]:
        """Yield the items of an async generator of the other side."""
        number = next(self._numbers)
        await self._writable.wait()
        self._send(Kind.OPEN, number, method, args, named)
        try:
            while True:
                future = self._expect(number)
                self._send(Kind.PULL, number)
                try:
                    item = await future
                except _Ended:
                    return
                yield item
        finally:
            self._send(Kind.CANCEL, number)

    def send_notification(self, method: str, *args: Any) -> None:
        """Send a note."""
        self._send(Kind.NOTE, 0, method, args)

    def _expect(self, number: int) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.closed.done():
            future.set_exception(ChannelClosed())
        else:
            self._calls[number] = future
            future.add_done_callback(lambda _: self._calls.pop(number, None))
        return future

    def _send(self, *frame: Any) -> None:
        """Send a frame. Raises TypeError or ValueError if it cannot be encoded or is too large."""
        self._leave_copy()
        if self.closed.done() or self._transport is None:
            return
        data = encode(frame)
        if len(data) > MAX_FRAME_BYTES:
            raise ValueError(f"{len(data)} bytes exceed the limit of a message, {MAX_FRAME_BYTES}; pass less")
        self._transport.write(_HEADER.pack(len(data)) + data)

    # Incoming frames

    def data_received(self, data: bytes) -> None:
        self._leave_copy()
        buffer = self._buffer
        buffer += data
        place = 0
        try:
            while len(buffer) - place >= _HEADER.size:
                (size,) = _HEADER.unpack_from(buffer, place)
                if size > MAX_FRAME_BYTES:
                    raise UndecodableMessage("a frame is too large")
                end = place + _HEADER.size + size
                if len(buffer) < end:
                    break
                frame = decode(bytes(memoryview(buffer)[place + _HEADER.size : end]))
                place = end
                self._take(frame)
        except (UndecodableMessage, ValueError, TypeError, LookupError) as error:
            self.problem = str(error)
            self._buffer.clear()
            if self._transport is not None:
                self._transport.abort()
            return
        del buffer[:place]

    def _take(self, frame: Any) -> None:
        kind, number, *rest = frame
        if kind in (Kind.CALL, Kind.OPEN):
            try:
                work, where = self._service.serve(*rest)
            except Exception as error:
                self._send(Kind.RAISED, number, error)
                return
        match kind:
            case Kind.NOTE:
                self._service.note(*rest)
            case Kind.CALL:
                answering = asyncio.create_task(self._answer(number, work), context=where)
                self._keep(number, answering, work.close)  # type: ignore[union-attr]
            case Kind.OPEN:
                self._streams[number] = _Stream(work, where)  # type: ignore[arg-type]
            case Kind.PULL if number in self._streams:
                stream = self._streams[number]
                stream.task = asyncio.create_task(self._pull(number, stream), context=stream.where)
            case Kind.CANCEL if number in self._serving:
                self._serving[number].cancel()
            case Kind.CANCEL:
                self._close_stream(number)
            case Kind.REPLY | Kind.RAISED | Kind.ENDED if number in self._calls:
                future = self._calls[number]
                if future.done():
                    pass
                elif kind is Kind.REPLY:
                    future.set_result(rest[0])
                else:
                    future.set_exception(rest[0] if rest else _Ended())
            case _:
                pass  # the call was cancelled or has ended

    async def _answer(self, number: int, work: Any) -> None:
        try:
            reply: tuple[Any, ...] = (Kind.REPLY, number, await work)
        except BaseException as error:
            reply = (Kind.RAISED, number, error)
        await self._reply(reply)

    async def _pull(self, number: int, stream: _Stream) -> None:
        try:
            reply: tuple[Any, ...] = (Kind.REPLY, number, await anext(stream.items))
        except StopAsyncIteration:
            reply = (Kind.ENDED, number)
        except BaseException as error:
            reply = (Kind.RAISED, number, error)
        await self._reply(reply)

    async def _reply(self, reply: tuple[Any, ...]) -> None:
        await self._writable.wait()
        try:
            self._send(*reply)
        except Exception as error:
            self._send(Kind.RAISED, reply[1], TypeError(f"{type(error).__name__}: {error}"))

    def _close_stream(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is None:
            return

        async def close() -> None:
            if stream.task is not None:
                stream.task.cancel()
                await asyncio.wait({stream.task})
            await stream.items.aclose()

        self._keep(-1 - number, asyncio.create_task(close(), context=stream.where))

    def _keep(
        self, number: int, task: asyncio.Task[None], close: Callable[[], object] = lambda: None
    ) -> None:
        def done(_: object) -> None:
            self._serving.pop(number, None)
            close()  # needed if the task was cancelled before its first step

        self._serving[number] = task
        task.add_done_callback(done)
