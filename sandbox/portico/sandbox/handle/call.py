"""One call to a sandbox's supervisor, at the owner's end: unread frames, the flow-control window, and the
result.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol

from portico.sandbox import errors
from portico.sandbox.handle.deadlines import GRACE, Deadline, Deadlines
from portico.sandbox.handle.replies import MalformedReply, Reply, parse
from portico.sandbox.inside import wire
from portico.sandbox.spec import Spec

_STUCK: Final = 10.0  # seconds from a cancel to the answer, before the sandbox counts as broken
_ACK_EVERY: Final = wire.WINDOW // 4
_BATCH: Final = 256 << 10  # bytes
_SLACK: Final = 2 * wire.CHUNK  # bytes that may arrive before the supervisor notices too much output
_DATA: Final = (wire.OUT, wire.ERR, wire.EVENT, wire.RICH)


class CallChannel(Protocol):
    """The channel of a call, as far as the call needs it."""

    deadlines: Deadlines
    paused: Callable[[], bool]

    def write(self, frame: bytes) -> None: ...

    async def drained(self) -> None: ...

    def broken(self, what: str) -> errors.SandboxGone: ...

    def lost(self, error: errors.SandboxError) -> None: ...


class Call:
    """One call. Iterate over `frames` to the end, then read `result`; or only await `answer`."""

    def __init__(self, channel: CallChannel, number: int) -> None:
        self._channel = channel
        self.deadlines = channel.deadlines
        self.number = number
        self.result: Reply | None = None
        self.output_limit: int | None = None  # bytes of data of all frames, if the supervisor limits them
        self.patience: float | None = None  # seconds of each single wait for the supervisor
        self.late: float | None = None  # the deadline in seconds that cancelled it
        self._frames: deque[tuple[int, bytes]] = deque()
        self._waiters: list[asyncio.Future[None]] = []  # tasks that read or close
        self._failure: errors.SandboxError | None = None
        self._credit = wire.WINDOW
        self._credit_waiter: asyncio.Future[None] | None = None
        self._output = 0
        self._owed = 0  # bytes received and not yet acknowledged
        self._taken = 0  # those of them that the reader has consumed
        self._abandoned = False

    @property
    def ended(self) -> bool:
        """Whether the call has ended; frames may still be unread."""
        return self.result is not None or self._failure is not None

    @property
    def finished(self) -> bool:
        """Whether the call has ended and all its frames have been read."""
        return self.result is not None and not self._frames

    async def batch(self) -> list[tuple[int, bytes]]:
        """Waits for OUT, ERR, EVENT and RICH frames and returns them in order, as many as have arrived; an
        empty list when the call has ended and all are read. Raises SandboxGone when the sandbox ends first.
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
        """Yields the frames of `batch` one by one."""
        while batch := await self.batch():
            for frame in batch:
                yield frame

    async def answer(self) -> Reply:
        """Discards data frames and returns the result. Raises the error that the call ended with."""
        while await self.batch():
            pass
        assert self.result is not None
        problem = self.problem()
        if problem is not None:
            raise problem
        return self.result

    def problem(self) -> errors.SandboxError | None:
        """Returns the error that the call ended with, or None. To be called after the end."""
        assert self.result is not None
        problem = self.result.failure()
        if self.late is not None and isinstance(problem, errors.CallCancelled):
            return errors.SandboxTimeout(self.late)
        return problem

    def read(self, payload: bytes) -> Reply:
        """Parses a JSON payload of this call. Ends the sandbox and raises SandboxGone if it is not JSON."""
        try:
            return Reply(parse(payload), self.broken)
        except MalformedReply as error:
            raise self.broken(str(error)) from None

    def broken(self, what: str) -> errors.SandboxGone:
        """Ends the sandbox, whose supervisor has broken the protocol, and returns the error to raise."""
        return self._channel.broken(what)

    async def send(self, data: bytes) -> None:
        """Sends input, waiting for room in the flow-control window. Empty data ends the input."""
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
        """Signals the end of the input."""
        if not self.ended:
            self._channel.write(wire.pack(self.number, wire.IN))

    def cancel(self, grace: float = GRACE) -> None:
        """Asks the supervisor to end the call within `grace` seconds; ends the sandbox if it does not."""
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
        """Cancels the call and returns when it has ended; further frames are dropped."""
        self.abandon()
        self.cancel(grace)
        while not self.ended:
            await self._wait()

    def abandon(self) -> None:
        """Drops all frames, also those that are yet to arrive."""
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
        """Processes a frame from the supervisor. Raises MalformedReply."""
        if kind in _DATA:
            self._received_data(kind, payload)
        elif kind == wire.END:
            # The channel's method: with the call's own, the two would wait for the garbage collector.
            self.result = Reply(parse(payload), self._channel.broken)
        elif kind == wire.ACK:
            size = int.from_bytes(payload, "big")
            self._credit += size
            if size == 0 or self._credit > wire.WINDOW:
                raise MalformedReply("more input acknowledged than was sent")
            if self._credit_waiter and not self._credit_waiter.done():
                self._credit_waiter.set_result(None)
            return
        else:
            raise MalformedReply(f"unexpected frame of kind {kind}")
        self._wake()

    def _received_data(self, kind: int, payload: bytes) -> None:
        if self._owed >= wire.WINDOW:
            raise MalformedReply("more data than the flow-control window allows")
        self._owed += len(payload) + wire.OVERHEAD
        if kind != wire.EVENT:
            self._output += wire.output_of(kind, payload)
            if self.output_limit is not None and self._output > self.output_limit + _SLACK:
                raise MalformedReply("more output than the limit allows")
        if self._abandoned:
            self._taken = self._owed
            self._acknowledge()
        else:
            self._frames.append((kind, payload))

    def fail(self, error: errors.SandboxError) -> None:
        """Ends the call with an error."""
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


class CallMaker(Protocol):
    """Makes calls to the supervisor of one sandbox."""

    spec: Spec

    def call(self, op: str, **arguments: Any) -> Call:
        """Sends a call. Raises SandboxGone, SandboxPaused."""
        ...

    async def request(self, op: str, **arguments: Any) -> Reply:
        """Makes a call and returns its result. Raises the error that the supervisor reports."""
        ...

    async def wait_reply(self, call: Call) -> Reply:
        """Waits for the result of an open call; raises as `request`."""
        ...
