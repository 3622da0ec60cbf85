"""The owner's end of the stream to an agent. What comes in may be written by hostile code: it is counted,
bounded and timed here, and the first frame that no agent would send ends the sandbox.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, cast

from portico.sandbox import errors
from portico.sandbox.answers import Answer, Broken, parse
from portico.sandbox.inside import wire

_STUCK: Final = 10.0  # seconds an agent may take to answer a cancel before its sandbox counts as broken
# Seconds between the interrupt and the kill of a cell, which takes its variables: on a machine full of work a
# kernel may wait for a good deal of that.
GRACE: Final = 2.0
_ACK_EVERY: Final = wire.WINDOW // 4
_BATCH: Final = 256 << 10  # bytes
_SLACK: Final = 2 * wire.CHUNK  # bytes that an agent may send before it notices that there is too much output
REQUEST_BYTES: Final = 8 << 20  # of one request, encoded
_MAX_CALLS: Final = 480  # at once; an agent takes as many, and has 128 of its own
_AGENT_CALLS: Final = 256  # that an agent may have open; it opens half as many
_UNREAD: Final = 64 << 20  # bytes written to a sandbox that does not read
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
_DATA: Final = (wire.OUT, wire.ERR, wire.EVENT, wire.RICH)


class Call:
    """One call. Iterate over `frames` to the end, then read `result`; or await `answer` for both."""

    def __init__(self, channel: "Channel", number: int) -> None:
        self._channel = channel
        self.number = number
        self.result: Answer | None = None
        self.output_limit: int | None = None  # bytes of data of all frames, where the agent keeps to a limit
        self.patience: float | None = None  # seconds that the agent may take each time it is waited for
        self.late: float | None = None  # the seconds after which it was cancelled
        self._frames: deque[tuple[int, bytes]] = deque()
        self._waiters: list[asyncio.Future[None]] = []  # who reads, and who closes meanwhile
        self._failure: errors.SandboxError | None = None
        self._credit = wire.WINDOW
        self._credit_waiter: asyncio.Future[None] | None = None
        self._output = 0
        self._owed = 0  # bytes that came in and were not acknowledged
        self._taken = 0  # of those, what has been taken
        self._abandoned = False

    @property
    def ended(self) -> bool:
        return self.result is not None or self._failure is not None

    @property
    def finished(self) -> bool:
        """Whether it has ended and all its frames have been taken."""
        return self.result is not None and not self._frames

    async def batch(self) -> list[tuple[int, bytes]]:
        """OUT, ERR, EVENT and RICH frames in order, as many as are there; none when the call has ended and
        all have been taken. Raises SandboxGone when the sandbox ends first.
        """
        while not self._frames:
            if self._failure is not None:
                raise self._failure
            if self.result is not None:
                return []
            await self._wait()
        return self._take()

    def _take(self) -> list[tuple[int, bytes]]:
        batch: list[tuple[int, bytes]] = []
        size = 0
        while self._frames and size < _BATCH:
            frame = self._frames.popleft()
            batch.append(frame)
            size += len(frame[1]) + wire.OVERHEAD
        self._taken += size
        self._acknowledge()
        return batch

    def _acknowledge(self) -> None:
        if self._taken >= _ACK_EVERY and not self.ended:
            self._channel.write(wire.pack_ack(self.number, self._taken))
            self._owed -= self._taken
            self._taken = 0

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """The same, one by one."""
        while batch := await self.batch():
            for frame in batch:
                yield frame

    async def answer(self) -> Answer:
        """The result, when nothing else is of interest. Raises what went wrong, by its own type."""
        while await self.batch():
            pass
        assert self.result is not None
        problem = self.problem()
        if problem is not None:
            raise problem
        return self.result

    def problem(self) -> errors.SandboxError | None:
        """What kept it from its end, after the end."""
        assert self.result is not None
        problem = self.result.failure()
        if self.late is not None and isinstance(problem, errors.CallCancelled):
            return errors.SandboxTimeout(self.late)
        return problem

    def read(self, payload: bytes) -> Answer:
        """JSON of this call. Ends the sandbox and raises SandboxGone for what is none."""
        try:
            return Answer(parse(payload), self.broken)
        except Broken as error:
            raise self.broken(str(error)) from None

    def broken(self, what: str) -> errors.SandboxGone:
        """Ends the sandbox, whose agent has broken the protocol, and gives the error to raise."""
        return self._channel.broken(what)

    async def send(self, data: bytes) -> None:
        """Sends input, waiting for credit. An empty one ends the input."""
        view = memoryview(data)
        while view and not self.ended:
            while self._credit <= 0 and not self.ended:
                self._credit_waiter = asyncio.get_running_loop().create_future()
                await self._patiently(self._credit_waiter)
            part = bytes(view[: wire.CHUNK])
            self._credit -= len(part)
            view = view[len(part) :]
            self._channel.write(wire.pack(self.number, wire.IN, part))
        await self._channel.drained()

    def end_input(self) -> None:
        if not self.ended:
            self._channel.write(wire.pack(self.number, wire.IN))

    def cancel(self, grace: float = GRACE) -> None:
        """Asks the agent to end the call; the sandbox is given up if it does not."""
        if self.ended:
            return
        self._channel.write(wire.pack_json(self.number, wire.CANCEL, {"grace": grace}))
        loop = asyncio.get_running_loop()

        def stuck() -> None:
            if self.ended:
                return
            if self._frames or self._channel.paused():  # it waits for its reader, or cannot answer
                loop.call_later(_STUCK, stuck)
            else:
                self._channel.lost(errors.SandboxGone("the sandbox does not answer", "killed"))

        loop.call_later(grace + _STUCK, stuck)

    async def abort(self, grace: float = GRACE) -> None:
        """Ends the call and returns when it has ended; what it still sends is dropped."""
        self.abandon()
        self.cancel(grace)
        while not self.ended:
            await self._wait()

    def abandon(self) -> None:
        """Drops what came in and what is still to come."""
        self._abandoned = True
        self._frames.clear()
        self._taken = self._owed
        self._acknowledge()

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await self._patiently(waiter)

    async def _patiently(self, waiter: asyncio.Future[None]) -> None:
        if self.patience is None:
            await waiter
            return
        deadline = Deadline(self, self.patience, grace=0)
        try:
            await waiter
        finally:
            deadline.stop()

    def received(self, kind: int, payload: bytes) -> None:
        """Raises Broken."""
        if kind in _DATA:
            self._received_data(kind, payload)
        elif kind == wire.END:
            self.result = Answer(parse(payload), self.broken)
        elif kind == wire.ACK:
            size = int.from_bytes(payload, "big")
            self._credit += size
            if size == 0 or self._credit > wire.WINDOW:
                raise Broken("input taken that was not sent")
            if self._credit_waiter and not self._credit_waiter.done():
                self._credit_waiter.set_result(None)
            return
        else:
            raise Broken(f"a frame of kind {kind}")
        self._wake()

    def _received_data(self, kind: int, payload: bytes) -> None:
        if self._owed >= wire.WINDOW:
            raise Broken("more than the window holds")
        self._owed += len(payload) + wire.OVERHEAD
        if kind != wire.EVENT:
            self._output += wire.output_of(kind, payload)
            if self.output_limit is not None and self._output > self.output_limit + _SLACK:
                raise Broken("more output than is allowed")
        if self._abandoned:
            self._taken = self._owed
            self._acknowledge()
        else:
            self._frames.append((kind, payload))

    def fail(self, error: errors.SandboxError) -> None:
        if not self.ended:
            self._failure = error
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        if self.ended and self._credit_waiter is not None:
            waiters.append(self._credit_waiter)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Deadline:
    """Cancels a call when its time is up."""

    def __init__(self, call: Call, seconds: float, grace: float = GRACE) -> None:
        self.seconds = seconds
        self.passed = False
        self._call, self._grace = call, grace
        self._timer = asyncio.get_running_loop().call_later(seconds, self._pass)

    def _pass(self) -> None:
        if not self._call.ended:
            self.passed = True
            self._call.late = self.seconds
            self._call.cancel(self._grace)

    def stop(self) -> None:
        self._timer.cancel()


class Channel(asyncio.Protocol):
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
        self._timing = False  # whether a frame that is not whole is being timed
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

    def data_received(self, data: bytes) -> None:
        if self._failure is not None:
            return
        try:
            for number, kind, payload in self._parser.feed(data):
                self._frame(number, kind, payload)
                if self._failure is not None:
                    return
        except (wire.BadFrame, Broken) as error:
            self.broken(str(error))
        if self._parser.partial and not self._timing:
            self._time(self._parser.count)

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
