"""Streams a run's log as Server-Sent Events, directly on ASGI.

The stream begins when its first event has arrived, so that earlier errors become HTTP errors; a stream of a
run that is silent begins with a ping. A StreamRendering formats events and errors for one protocol.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.client import MultiplexedStream, PorticoError, Unavailable
from portico.client.run_status import TERMINAL_STATUSES
from portico.gateways.http.request.body import Disconnected, wait_disconnect
from portico.gateways.http.server.batched_protocol import chunks_of
from portico.v1 import events_pb2, query_pb2

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),
]
PING = b": ping\n\n"
# Most answers have begun by then and never need a task that watches for a disconnect.
UNWATCHED_SECONDS = 0.1
_LAST = TERMINAL_STATUSES | {events_pb2.RUN_STATUS_INPUT_REQUIRED}
Frames = list[query_pb2.StreamFrame]


class StreamRendering(Protocol):
    """Formats one stream for a protocol. It may keep state from one frame to the next."""

    def headers(self, run_id: str, frames: Frames | tuple[()]) -> list[tuple[bytes, bytes]]:
        """Returns additional headers, given the run's id and the first frames, as far as known."""
        ...

    def events(self, frames: Frames) -> Sequence[bytes | None]:
        """Returns the text of the frames, in the pieces to send; None as the last piece ends the answer."""
        ...

    def ended(self, *, stopping: bool) -> bytes:
        """Returns the last bytes of a stream whose log has ended, or of a process that is stopping."""
        ...

    def refusal(self, error: PorticoError) -> Response:
        """Returns the answer to an error before the stream has begun."""
        ...

    def failure(self, error: Exception) -> bytes:
        """Returns the last bytes after an error in a stream that has begun: a PorticoError, or a defect,
        which the rendering must log.
        """
        ...


class StreamReader:
    """A stream read for one request, until it ends, the reader disconnects, or this process stops."""

    def __init__(self, stream: MultiplexedStream, receive: Receive) -> None:
        self._stream = stream
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None
        self._left = False
        self._stopping = False

    def stop(self) -> None:
        """Ends the stream at its current position; the client can resume it."""
        self._stopping = True
        self._stream.close()

    def release(self) -> None:
        """Stops reading and frees the stream."""
        # Dropped first: a cancelled task refers back to this object, a cycle that only the garbage collector
        # would free.
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
        self._stream.close()

    def _watch(self) -> None:
        if self._watching is None:
            self._watching = asyncio.create_task(self._until_gone())

    async def _until_gone(self) -> None:
        await wait_disconnect(self._receive)
        self._left = True
        # A pending read of the next frames then returns the end.
        self._stream.close()


class WholeRunReader(StreamReader):
    """Answers a request with one body for the whole run."""

    async def run(self, collect: "CollectRun") -> None:
        """Passes the frames to `collect` until it returns true, or the log ends or pauses.

        Raises PorticoError, Disconnected.
        """
        try:
            self._watch()
            async for frames in self._stream:
                if collect(frames):
                    return
        except PorticoError as error:
            if self._stream.run_id:
                # The caller has not learned the run's id yet, and would start the same run again.
                error.metadata = {**error.metadata, "run_id": self._stream.run_id}
            raise
        if self._left:
            raise Disconnected
        if self._stopping:
            raise is_stopping_error()


class CollectRun(Protocol):
    """Receives frames in order; returns true when it needs no more."""

    def __call__(self, frames: Frames, /) -> bool | None: ...


class SseStream(StreamReader):
    """Answers a request with a stream."""

    def __init__(
        self,
        stream: MultiplexedStream,
        rendering: StreamRendering,
        scope: Scope,
        receive: Receive,
        send: Send,
        ping: float,
    ) -> None:
        super().__init__(stream, receive)
        self._rendering = rendering
        self._scope = scope
        self._send = send
        self._chunks = chunks_of(scope)
        self._ping_seconds = ping
        self._started = False
        self._idle = False
        self._pinging: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(min(UNWATCHED_SECONDS, ping), self._stays)

    async def run(self) -> None:
        """Sends the events as the answer."""
        try:
            await self._follow()
        except PorticoError as error:
            if not self._started:
                await self._rendering.refusal(error)(self._scope, self._receive, self._send)
                return
            await self._body(self._rendering.failure(error), more=False)
        except Exception as error:
            if not self._started:
                raise
            await self._body(self._rendering.failure(error), more=False)

    def release(self) -> None:
        super().release()
        self._timer.cancel()

    async def _follow(self) -> None:
        while (frames := await self._next()) is not None:
            if not self._started:
                await self._begin(frames)
            *first, last = self._rendering.events(frames) or (b"",)
            for piece in first:
                await self._body(piece or b"", more=True)
            if last is None:
                await self._body(b"", more=False)
                return
            if _ended(frames):
                # Saves one send per run.
                await self._body(last + self._rendering.ended(stopping=False), more=False)
                return
            await self._body(last, more=True)
            # Short answers have ended by now; only longer ones watch for a disconnect.
            self._watch()
        if self._left:
            return
        if self._stopping and not self._started:
            raise is_stopping_error()
        if not self._started:
            await self._begin(())
        await self._body(self._rendering.ended(stopping=self._stopping), more=False)

    async def _next(self) -> Frames | None:
        self._idle = True
        try:
            return await self._stream.next_frames(self._at_once if self._started else None)
        finally:
            self._idle = False
            if self._pinging is not None:
                # A ping in progress must finish: only one task may send at a time.
                await self._pinging
                self._pinging = None

    def _at_once(self, frames: Frames) -> bool:
        chunks = self._chunks
        if chunks is None or chunks.flow.write_paused:
            return False  # only `send` applies flow control to a slow reader
        pieces = self._rendering.events(frames)
        chunks.write(pieces)
        if pieces and pieces[-1] is None:
            self._stream.close()
        return True

    def _stays(self) -> None:
        self._watch()
        self._timer = self._loop.call_later(max(self._ping_seconds - UNWATCHED_SECONDS, 0), self._tick)

    def _tick(self) -> None:
        if self._idle and self._pinging is None:
            self._pinging = asyncio.create_task(self._ping())
        self._timer = self._loop.call_later(self._ping_seconds, self._tick)

    async def _ping(self) -> None:
        if not self._started:
            if not self._stream.run_id:
                return  # a run that has not begun may still fail with an HTTP error
            await self._begin(())
        await self._body(PING, more=True)
        if self._idle:
            self._pinging = None

    async def _begin(self, frames: Frames | tuple[()]) -> None:
        self._started = True
        headers = HEADERS + self._rendering.headers(self._stream.run_id, frames)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _body(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


class StreamRegistry:
    """The streams that this process reads for its callers; all end when the process stops."""

    def __init__(self, ping_seconds: float) -> None:
        self.ping_seconds = ping_seconds
        self._open: set[StreamReader] = set()
        self._stopped = False

    async def send(
        self,
        stream: MultiplexedStream,
        rendering: StreamRendering,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answers a request with the stream's events, and closes the stream."""
        reading = SseStream(stream, rendering, scope, receive, send, self.ping_seconds)
        self._enter(reading)
        try:
            await reading.run()
        finally:
            self._leave(reading)

    async def whole(self, stream: MultiplexedStream, receive: Receive, collect: CollectRun) -> None:
        """Follows the stream to its end, and closes it. Raises PorticoError, Disconnected."""
        reading = WholeRunReader(stream, receive)
        self._enter(reading)
        try:
            await reading.run(collect)
        finally:
            self._leave(reading)

    def stop(self) -> None:
        """Ends all current and future streams so that clients can resume them."""
        self._stopped = True
        for reading in tuple(self._open):
            reading.stop()

    def _enter(self, reading: StreamReader) -> None:
        self._open.add(reading)
        if self._stopped:
            reading.stop()

    def _leave(self, reading: StreamReader) -> None:
        self._open.discard(reading)
        reading.release()


def id_headers(run_id: str, session_id: str) -> list[tuple[bytes, bytes]]:
    """Returns headers for the ids that a header can carry. Callers choose session ids, and a reader names the
    run's id, so both may contain other characters.
    """
    ids = ((b"x-run-id", run_id), (b"x-session-id", session_id))
    return [
        (name, value.encode()) for name, value in ids if value and value.isascii() and value.isprintable()
    ]


def first_response(frames: Frames | tuple[()]) -> events_pb2.Response | None:
    """Returns the response with which a log begins, if the frames start there."""
    if frames and frames[0].events and frames[0].events[0].HasField("response"):
        return frames[0].events[0].response
    return None


def is_stopping_error() -> Unavailable:
    """Returns the error for streams that end because this process stops."""
    return Unavailable("this gateway is stopping; use another one", reason="DRAINING")


def _ended(frames: Frames) -> bool:
    """Returns whether no frame can follow these."""
    frame = frames[-1]
    if not frame.HasField("end") or frame.end.code or not frame.events:
        return False
    last = frame.events[-1]
    return last.HasField("response") and last.response.status in _LAST
