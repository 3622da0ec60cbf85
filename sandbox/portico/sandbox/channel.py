"""The owner's end of the stream to an agent. What comes in may be written by hostile code and is checked
here.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, cast

from portico.sandbox import errors
from portico.sandbox.inside import wire

_STUCK: Final = 10.0  # seconds an agent may take to answer a cancel before its sandbox counts as broken
# Seconds between the interrupt and the kill of a cell, which takes its variables: on a machine full of work a
# kernel may wait for a good deal of that.
GRACE: Final = 2.0
_ACK_EVERY: Final = wire.WINDOW // 4
_BATCH: Final = 256 << 10  # bytes


class Call:
    """One call. Iterate over `frames` to the end, then read `result`; or await `answer` for both."""

    def __init__(self, channel: "Channel", number: int) -> None:
        self._channel = channel
        self.number = number
        self.result: dict[str, Any] | None = None
        self._frames: deque[tuple[int, bytes]] = deque()
        self._waiters: list[asyncio.Future[None]] = []  # who reads, and who closes meanwhile
        self._failure: errors.SandboxError | None = None
        self._credit = wire.WINDOW
        self._credit_waiter: asyncio.Future[None] | None = None
        self._taken = 0
        self._abandoned = False

    @property
    def ended(self) -> bool:
        return self.result is not None or self._failure is not None

    @property
    def finished(self) -> bool:
        """Whether it has ended and all its frames have been taken."""
        return self.result is not None and not self._frames

    async def batch(self) -> list[tuple[int, bytes]]:
        """OUT, ERR and EVENT frames in order, as many as are there; none when the call has ended and all have
        been taken. Raises SandboxGone when the sandbox ends first.
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
            size += len(frame[1])
            if frame[0] != wire.EVENT:
                self._taken += len(frame[1])
        if self._taken >= _ACK_EVERY and not self.ended:
            self._channel.write(wire.pack_ack(self.number, self._taken))
            self._taken = 0
        return batch

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """The same, one by one."""
        while batch := await self.batch():
            for frame in batch:
                yield frame

    async def answer(self) -> dict[str, Any]:
        """The result, when nothing else is of interest. Raises what went wrong, by its own type."""
        while await self.batch():
            pass
        assert self.result is not None
        if "error" in self.result and isinstance(self.result["error"], dict):
            raise failure(self.result["error"])
        return self.result

    async def send(self, data: bytes) -> None:
        """Sends input, waiting for credit. An empty one ends the input."""
        view = memoryview(data)
        while view and not self.ended:
            while self._credit <= 0 and not self.ended:
                self._credit_waiter = asyncio.get_running_loop().create_future()
                await self._credit_waiter
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
            if not self.ended:
                self._channel.lost(errors.SandboxGone("the sandbox does not answer", "killed"))

        loop.call_later(grace + _STUCK, stuck)

    async def abort(self, grace: float = GRACE) -> None:
        """Ends the call and returns when it has ended; what it still sends is dropped."""
        self._abandoned = True
        self._frames.clear()
        self.cancel(grace)
        while not self.ended:
            await self._wait()

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def received(self, kind: int, payload: bytes) -> None:
        if kind == wire.ACK:
            self._credit += int.from_bytes(payload[:4], "big")
            if self._credit_waiter and not self._credit_waiter.done():
                self._credit_waiter.set_result(None)
            return
        if kind == wire.END:
            self.result = wire.parse_json(payload)
        elif kind in (wire.OUT, wire.ERR, wire.EVENT) and not self._abandoned:
            self._frames.append((kind, payload))
        self._wake()

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
        self.passed = not self._call.ended
        self._call.cancel(self._grace)

    def stop(self) -> None:
        self._timer.cancel()


class Channel(asyncio.Protocol):
    """All calls of one sandbox over one stream."""

    def __init__(
        self, on_lost: Callable[[], None], on_connect: Callable[[Call], Awaitable[None]] | None = None
    ) -> None:
        self._on_lost = on_lost
        self.on_connect = on_connect  # takes connections that want out of the sandbox
        self._transport: asyncio.Transport | None = None
        self._parser = wire.Parser()
        self._calls: dict[int, Call] = {}
        self._next = 0
        self._failure: errors.SandboxError | None = None
        self._drained: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def call(self, op: str, **arguments: Any) -> Call:
        """Opens a call. Raises SandboxGone."""
        if self._failure is not None:
            raise self._failure
        self._next = self._next % (wire.AGENT_CALL - 1) + 1
        call = self._calls[self._next] = Call(self, self._next)
        self.write(wire.pack_json(call.number, wire.CALL, {"op": op, **arguments}))
        return call

    @property
    def open_calls(self) -> int:
        return len(self._calls)

    def write(self, frame: bytes) -> None:
        if self._transport is not None and self._failure is None:
            self._transport.write(frame)

    async def drained(self) -> None:
        """Waits until the transport takes more."""
        if self._drained is not None:
            await asyncio.shield(self._drained)

    def lost(self, error: errors.SandboxError) -> None:
        """Ends every call with the error, and all that will be made. The first error stays."""
        if self._failure is None:
            self._failure = error
            if self._transport is not None:
                self._transport.abort()
            for call in list(self._calls.values()):
                call.fail(error)
            self._calls.clear()
            for task in self._tasks:
                task.cancel()
            self.resume_writing()
            self._on_lost()

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
        try:
            for number, kind, payload in self._parser.feed(data):
                self._frame(number, kind, payload)
        except wire.BadFrame as error:
            self.lost(errors.SandboxGone(f"the sandbox broke the protocol: {error}", "killed"))

    def _frame(self, number: int, kind: int, payload: bytes) -> None:
        if kind == wire.CALL and number & wire.AGENT_CALL:
            self._accept(number)
            return
        call = self._calls.get(number)
        if call is not None:
            call.received(kind, payload)
            if kind == wire.END:
                del self._calls[number]

    def _accept(self, number: int) -> None:
        call = Call(self, number)
        if self.on_connect is None or len(self._tasks) >= 256 or number in self._calls:
            self.write(wire.pack(number, wire.END, b"{}"))
            return
        self._calls[number] = call
        task = asyncio.ensure_future(self._serve(call, self.on_connect))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, call: Call, handler: Callable[[Call], Awaitable[None]]) -> None:
        try:
            await handler(call)
        except (errors.SandboxError, OSError):
            pass  # one connection's trouble; the code inside sees it closed
        finally:
            if not call.ended:
                self.write(wire.pack_json(call.number, wire.CANCEL, {}))


def failure(error: dict[str, Any]) -> errors.SandboxError:
    """The typed error for what an agent told."""
    kind, message = str(error.get("kind")), str(error.get("message"))[:2_000]
    if kind == "limit":
        return errors.LimitExceeded(message, str(error.get("limit")), bool(error.get("kernel_lost")))
    if kind == "kernel_died":
        code = error.get("exit_code")
        return errors.KernelDied(message, code if isinstance(code, int) else 0)
    return _KINDS.get(kind, errors.OperationFailed)(message)


_KINDS: Final[dict[str, type[errors.SandboxError]]] = {
    "invalid": errors.InvalidRequest,
    "invalid_path": errors.InvalidPath,
    "no_match": errors.EditMismatch,
    "not_found": errors.EntryNotFound,
    "no_process": errors.ProcessNotFound,
    "not_directory": errors.InvalidPath,
    "is_directory": errors.InvalidPath,
    "exists": errors.EntryExists,
    "refused": errors.PortRefused,
    "cancelled": errors.CallCancelled,
    "boot": errors.BackendUnavailable,
    "busy": errors.InvalidRequest,
}
