"""The owner's end of the connection to a supervisor. Untrusted code may write what arrives, so the channel
counts, limits and times it; the first frame that a supervisor would not send ends the sandbox.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from portico.sandbox import errors
from portico.sandbox.handle.call import Call
from portico.sandbox.handle.deadlines import Deadlines
from portico.sandbox.handle.replies import MalformedReply
from portico.sandbox.inside import wire

REQUEST_BYTES: Final = 8 << 20  # of one request, encoded
_MAX_CALLS: Final = 480  # open at once; a supervisor accepts as many, besides 128 of its own
_AGENT_CALLS: Final = 256  # that a supervisor may have open; it opens half as many
_UNREAD: Final = 64 << 20  # bytes written to a sandbox that does not read
_TURN: Final = 512  # frames that are read before other tasks run: each costs far more than its few bytes
_READ: Final = 64 << 10  # bytes of one read; asyncio's own 256 KiB would be mapped and unmapped each time
_FRAME_SECONDS: Final = 60.0  # from the first byte of a frame to its last
_PAYLOADS: Final = {  # most bytes of the payload of each frame kind that a supervisor may send
    wire.CALL: 256,
    wire.OUT: wire.CHUNK,
    wire.ERR: wire.CHUNK,
    wire.EVENT: wire.EVENT_BYTES,
    wire.RICH: wire.RICH_BYTES,
    wire.END: wire.END_BYTES,
    wire.ACK: 4,
}


class _Reading(threading.local):
    """The read buffer that all channels of one thread share: each copies its bytes out before another
    reads."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(_READ))


_reading: Final = _Reading()


class Channel(asyncio.BufferedProtocol):
    """The connection to one sandbox, which carries all its calls."""

    def __init__(
        self,
        on_lost: Callable[[errors.SandboxError], None],
        on_connect: Callable[[Call], Awaitable[None]] | None = None,
        *,
        paused: Callable[[], bool] = lambda: False,
        longest: Callable[[], int] = lambda: REQUEST_BYTES,
    ) -> None:
        self._on_lost = on_lost
        self.on_connect = on_connect  # serves connections that the sandbox opens to the outside
        self.paused = paused  # while it returns True, no deadline counts
        self._longest = longest  # most bytes of a request
        self._transport: asyncio.Transport | None = None
        self._parser = wire.Parser(_PAYLOADS)
        self._held = False  # whether reading is suspended so that other tasks can run
        self._timing = False  # whether an incomplete frame is being timed
        self.deadlines = Deadlines()
        self._calls: dict[int, Call] = {}
        self._agents_calls = 0  # those of them that the supervisor opened
        self._next = 0
        self._failure: errors.SandboxError | None = None
        self._drained: asyncio.Future[None] | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def call(self, op: str, **arguments: Any) -> Call:
        """Sends a request. Raises SandboxGone, InvalidRequest for a request that is too long, and
        LimitExceeded("calls") when too many calls are open or too much is unread.
        """
        if self._failure is not None:
            raise self._failure
        request = wire.encode({"op": op, **arguments})
        if len(request) > self._longest():
            said = f"{len(request)} bytes once encoded, the limit of a request is {self._longest()}"
            raise errors.InvalidRequest(f"{_LONG.get(op, 'request')}: {said}")
        if len(self._calls) - self._agents_calls >= _MAX_CALLS or self._unread() > _UNREAD // 2:
            raise errors.LimitExceeded("the sandbox has too many open calls or unread requests", "calls")
        self._next = self._next % (wire.AGENT_CALL - 1) + 1
        call = self._calls[self._next] = Call(self, self._next)
        self.write(wire.pack(call.number, wire.CALL, request))
        return call

    @property
    def open_calls(self) -> int:
        """Number of open calls of both sides."""
        return len(self._calls)

    def write(self, frame: bytes) -> None:
        """Sends a frame; ends the sandbox if too much is unread."""
        if self._transport is not None and self._failure is None:
            self._transport.write(frame)
            if self._unread() > _UNREAD:
                self.broken("it does not read")

    def _unread(self) -> int:
        """Returns the bytes in the send buffer; 0 while the transport accepts more."""
        if self._drained is None or self._transport is None:
            return 0
        return self._transport.get_write_buffer_size()

    async def drained(self) -> None:
        """Waits until the transport accepts more."""
        if self._drained is not None:
            await asyncio.shield(self._drained)

    def broken(self, what: str) -> errors.SandboxGone:
        """Ends the sandbox for a protocol violation and returns the error that its calls end with."""
        self.lost(errors.SandboxGone(f"the sandbox broke the protocol: {what}", "protocol"))
        assert self._failure is not None
        if isinstance(self._failure, errors.SandboxGone):
            return self._failure
        return errors.SandboxGone(str(self._failure), "killed")

    def lost(self, error: errors.SandboxError) -> None:
        """Ends every open call with the error, and later calls too. Only the first error counts."""
        if self._failure is None:
            self._failure = error
            if self._transport is not None:
                self._transport.abort()
            for call in list(self._calls.values()):
                call.fail(error)
            self._calls.clear()
            for task in self._tasks.values():
                task.cancel()
            self.deadlines.close()
            self.resume_writing()
            self._on_lost(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's type is only structurally one
        if self._failure is not None:  # the channel was closed before the connection was made
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost(errors.SandboxGone("the sandbox has ended", "killed"))

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def get_buffer(self, sizehint: int) -> memoryview:
        return _reading.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(_reading.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Processes bytes from the supervisor."""
        if self._failure is not None:
            return
        parser = self._parser
        if self._held:
            parser.hold(data)
            return
        most = parser.count + _TURN
        try:
            for number, kind, payload in parser.feed(data):
                self._frame(number, kind, payload)
                if self._failure is not None:
                    return
                if parser.count == most:
                    self._go_on_later()
                    return
        except (wire.BadFrame, MalformedReply) as error:
            self.broken(str(error))
        if self._parser.partial and not self._timing:
            self._time(self._parser.count)

    def _go_on_later(self) -> None:
        """Suspends reading, lets other tasks run, then processes the rest of the bytes."""
        transport = self._transport
        assert transport is not None
        transport.pause_reading()
        self._held = True

        def go_on() -> None:
            self._held = False
            if self._failure is None:
                transport.resume_reading()  # first, because data_received may pause it again
                self.data_received(b"")

        asyncio.get_running_loop().call_soon(go_on)

    def _time(self, count: int) -> None:
        """Ends the sandbox if the frame after the first `count` stays incomplete for _FRAME_SECONDS."""
        self._timing = True

        def look() -> None:
            self._timing = False
            if self._failure is not None or not self._parser.partial:
                return
            if self._parser.count == count and not self.paused():
                self.broken("incomplete frame")
            else:
                self._time(self._parser.count)

        asyncio.get_running_loop().call_later(_FRAME_SECONDS, look)

    def _frame(self, number: int, kind: int, payload: bytes) -> None:
        """Routes a frame to its call. Raises MalformedReply."""
        call = self._calls.get(number)
        if call is not None:
            call.received(kind, payload)
            if kind == wire.END:
                del self._calls[number]
                if number & wire.AGENT_CALL:
                    self._agents_calls -= 1
                    if number in self._tasks:
                        self._tasks[number].cancel()
        elif kind == wire.CALL and number & wire.AGENT_CALL and number not in self._tasks:
            self._accept(number)
        else:
            raise MalformedReply("a frame for no open call")

    def _accept(self, number: int) -> None:
        """Accepts a connection that the sandbox opens to the outside. Raises MalformedReply."""
        if self.on_connect is None or self._agents_calls >= _AGENT_CALLS:
            raise MalformedReply("a call that is not allowed")
        self._agents_calls += 1
        call = self._calls[number] = Call(self, number)
        if len(self._tasks) >= _AGENT_CALLS:  # tasks of calls that have just ended
            call.abandon()
            self.write(wire.pack_json(number, wire.CANCEL, {}))
            return
        task = self._tasks[number] = asyncio.ensure_future(self._serve(call, self.on_connect))
        task.add_done_callback(lambda _done: self._tasks.pop(number, None))

    async def _serve(self, call: Call, handler: Callable[[Call], Awaitable[None]]) -> None:
        try:
            await handler(call)
        except (errors.SandboxError, OSError):
            pass  # affects one connection only; the code inside sees it closed
        finally:
            if not call.ended:
                call.abandon()
                self.write(wire.pack_json(call.number, wire.CANCEL, {}))


# The argument that makes a request of each operation long, for the error message.
_LONG: Final = {
    "cell": "code",
    "run": "command",
    "process.start": "command",
    "file.edit": "edits",
    "file.search": "exclude",
    "start": "env",
}
