"""The owner's end of the stream to an agent. Hostile code may write what comes in: the channel counts, limits
and times it, and the first frame that no agent would send ends the sandbox.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from portico.sandbox import errors
from portico.sandbox.answers import Broken
from portico.sandbox.call import Call as Call
from portico.sandbox.deadlines import Deadline as Deadline
from portico.sandbox.deadlines import Deadlines
from portico.sandbox.inside import wire

REQUEST_BYTES: Final = 8 << 20  # of one request, encoded
_MAX_CALLS: Final = 480  # at once; an agent takes as many, and has 128 of its own
_AGENT_CALLS: Final = 256  # that an agent may have open; it opens half as many
_UNREAD: Final = 64 << 20  # bytes written to a sandbox that does not read
_TURN: Final = 512  # frames that are read before other tasks run: each costs far more than its few bytes
_READ: Final = 64 << 10  # bytes of one read; asyncio's own 256 KiB would be mapped and unmapped each time
_FRAME_SECONDS: Final = 60.0  # from the first byte of a frame to its last
_PAYLOADS: Final = {  # bytes, of what an agent may send
    wire.CALL: 256,
    wire.OUT: wire.CHUNK,
    wire.ERR: wire.CHUNK,
    wire.EVENT: wire.EVENT_BYTES,
    wire.RICH: wire.RICH_BYTES,
    wire.END: wire.END_BYTES,
    wire.ACK: 4,
}


class _Reading(threading.local):
    """The buffer of all channels of one loop: each takes its bytes out before another one reads."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(_READ))


_reading: Final = _Reading()


class Channel(asyncio.BufferedProtocol):
    """All calls of one sandbox over one stream."""

    def __init__(
        self,
        on_lost: Callable[[errors.SandboxError], None],
        on_connect: Callable[[Call], Awaitable[None]] | None = None,
        *,
        paused: Callable[[], bool] = lambda: False,
        longest: Callable[[], int] = lambda: REQUEST_BYTES,
    ) -> None:
        self._on_lost = on_lost
        self.on_connect = on_connect  # takes connections that want out of the sandbox
        self.paused = paused  # while it is, nothing is late
        self._longest = longest  # bytes of a request
        self._transport: asyncio.Transport | None = None
        self._parser = wire.Parser(_PAYLOADS)
        self._held = False  # whether frames wait for other tasks to have their turn
        self._timing = False  # whether a frame that is not whole is being timed
        self.deadlines = Deadlines()
        self._calls: dict[int, Call] = {}
        self._agents_calls = 0  # of those, what the agent has opened
        self._next = 0
        self._failure: errors.SandboxError | None = None
        self._drained: asyncio.Future[None] | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def call(self, op: str, **arguments: Any) -> Call:
        """Opens a call. Raises SandboxGone, InvalidRequest for a request that is too long, and
        LimitExceeded("calls") when too much has not been taken yet.
        """
        if self._failure is not None:
            raise self._failure
        request = wire.encode({"op": op, **arguments})
        if len(request) > self._longest():
            said = f"{len(request)} bytes once encoded, and {self._longest()} is the most of a request"
            raise errors.InvalidRequest(f"{_LONG.get(op, 'request')}: {said}")
        if len(self._calls) - self._agents_calls >= _MAX_CALLS or self._unread() > _UNREAD // 2:
            raise errors.LimitExceeded("the sandbox has not taken the calls there are", "calls")
        self._next = self._next % (wire.AGENT_CALL - 1) + 1
        call = self._calls[self._next] = Call(self, self._next)
        self.write(wire.pack(call.number, wire.CALL, request))
        return call

    @property
    def open_calls(self) -> int:
        return len(self._calls)

    def write(self, frame: bytes) -> None:
        if self._transport is not None and self._failure is None:
            self._transport.write(frame)
            if self._unread() > _UNREAD:
                self.broken("it does not read")

    def _unread(self) -> int:
        """Bytes that wait to be sent, once they are many."""
        if self._drained is None or self._transport is None:
            return 0
        return self._transport.get_write_buffer_size()

    async def drained(self) -> None:
        """Waits until the transport takes more."""
        if self._drained is not None:
            await asyncio.shield(self._drained)

    def broken(self, what: str) -> errors.SandboxGone:
        """Ends the sandbox, which has broken the protocol, and gives the error that its calls end with."""
        self.lost(errors.SandboxGone(f"the sandbox broke the protocol: {what}", "protocol"))
        assert self._failure is not None
        if isinstance(self._failure, errors.SandboxGone):
            return self._failure
        return errors.SandboxGone(str(self._failure), "killed")

    def lost(self, error: errors.SandboxError) -> None:
        """Ends every call with the error, and all that will be made. The first error stays."""
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
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only
        if self._failure is not None:  # it was over before it began
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
        """Takes bytes of the agent's."""
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
        except (wire.BadFrame, Broken) as error:
            self.broken(str(error))
        if self._parser.partial and not self._timing:
            self._time(self._parser.count)

    def _go_on_later(self) -> None:
        """Takes no more before the rest of the bytes has been read, after other tasks have had their turn."""
        transport = self._transport
        assert transport is not None
        transport.pause_reading()
        self._held = True

        def go_on() -> None:
            self._held = False
            if self._failure is None:
                transport.resume_reading()  # first, as this may pause it again
                self.data_received(b"")

        asyncio.get_running_loop().call_soon(go_on)

    def _time(self, count: int) -> None:
        """Sees to it that the frame after so many comes to its end."""
        self._timing = True

        def look() -> None:
            self._timing = False
            if self._failure is not None or not self._parser.partial:
                return
            if self._parser.count == count and not self.paused():
                self.broken("half a frame")
            else:
                self._time(self._parser.count)

        asyncio.get_running_loop().call_later(_FRAME_SECONDS, look)

    def _frame(self, number: int, kind: int, payload: bytes) -> None:
        """Raises Broken."""
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
            raise Broken("a frame of no call")

    def _accept(self, number: int) -> None:
        """Raises Broken."""
        if self.on_connect is None or self._agents_calls >= _AGENT_CALLS:
            raise Broken("a call that is not allowed")
        self._agents_calls += 1
        call = self._calls[number] = Call(self, number)
        if len(self._tasks) >= _AGENT_CALLS:  # of others that have just ended
            call.abandon()
            self.write(wire.pack_json(number, wire.CANCEL, {}))
            return
        task = self._tasks[number] = asyncio.ensure_future(self._serve(call, self.on_connect))
        task.add_done_callback(lambda _done: self._tasks.pop(number, None))

    async def _serve(self, call: Call, handler: Callable[[Call], Awaitable[None]]) -> None:
        try:
            await handler(call)
        except (errors.SandboxError, OSError):
            pass  # one connection's trouble; the code inside sees it closed
        finally:
            if not call.ended:
                call.abandon()
                self.write(wire.pack_json(call.number, wire.CANCEL, {}))


# What a caller knows the long part of a request by.
_LONG: Final = {
    "cell": "code",
    "run": "command",
    "process.start": "command",
    "file.edit": "edits",
    "file.search": "exclude",
    "start": "env",
}
