"""A run's log as Server-Sent Events, straight on ASGI: one send for all that is ready.

The stream begins once its first event is there, so that what goes wrong before
is an HTTP error. It ends after the terminal event or a pause; one that is cut
ends with `event: error`, and the reader comes back with its last event id.
"""

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send

from portico.client import MuxStream, PorticoError
from portico.gateways.sse.encode import EventEncoder, dumps, response_json
from portico.gateways.sse.errors import error_json, from_core
from portico.v1 import events_pb2, query_pb2

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),
]
PING = b": ping\n\n"


class Streams:
    """The open streams of this process, which end when it stops."""

    def __init__(self, ping_seconds: float) -> None:
        self.ping_seconds = ping_seconds
        self._open: set[SseStream] = set()

    async def send(self, stream: MuxStream, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with the stream's events. Closes the stream."""
        try:
            frames = await stream.next_frames()
        except PorticoError as error:
            await from_core(error)(scope, receive, send)
            return
        finally:
            if stream.last_sequence_number is None:
                stream.close()
        answer = SseStream(stream, receive, send, self.ping_seconds)
        self._open.add(answer)
        try:
            await answer.run(frames)
        finally:
            self._open.discard(answer)
            stream.close()

    def stop(self) -> None:
        """End all streams, resumably."""
        for stream in tuple(self._open):
            stream.stop()


class SseStream:
    """One answer that streams."""

    def __init__(self, stream: MuxStream, receive: Receive, send: Send, ping_seconds: float) -> None:
        self._stream = stream
        self._receive = receive
        self._send = send
        self._ping_seconds = ping_seconds
        self._encoder = EventEncoder()
        self._idle = False
        self._pinging: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._gone: asyncio.Task[Any] | None = None
        self._task = asyncio.current_task()
        self._stopping = False

    async def run(self, frames: list[query_pb2.StreamFrame] | None) -> None:
        """Send the frames and all that follow."""
        headers = [*_HEADERS, (b"x-run-id", self._stream.run_id.encode())]
        session_id = _session_id(frames)
        if session_id.isascii() and session_id.isprintable() and session_id:
            headers.append((b"x-session-id", session_id.encode()))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            while frames is not None:
                ended = _ended(frames)
                await self._body(self._encoder.encode(frames), more=not ended)
                if ended:
                    return
                frames = await self._next()
            await self._body(b"", more=False)
        except PorticoError as error:
            value = error_json(error.reason or error.code.name, error.message, error.metadata)
            await self._body(b"event: error\ndata: %b\n\n" % dumps(value), more=False)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            await self._body(b": this gateway stops; come back with your last event id\n\n", more=False)
        finally:
            self._release()

    def stop(self) -> None:
        """End the stream where it stands."""
        if self._task is not None:
            self._stopping = True
            self._task.cancel()

    async def _next(self) -> list[query_pb2.StreamFrame] | None:
        # A short answer is over by now; only those that go on watch for a reader that leaves.
        if self._gone is None:
            self._gone = asyncio.create_task(self._watch_reader())
            self._timer = asyncio.get_running_loop().call_later(self._ping_seconds, self._ping)
        self._idle = True
        try:
            return await self._stream.next_frames()
        finally:
            self._idle = False
            if self._pinging is not None:
                await self._pinging
                self._pinging = None

    async def _watch_reader(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None:
            self._task.cancel()

    def _ping(self) -> None:
        if self._idle and self._pinging is None:
            self._pinging = asyncio.create_task(self._body(PING, more=True))
            self._pinging.add_done_callback(self._pinged)
        self._timer = asyncio.get_running_loop().call_later(self._ping_seconds, self._ping)

    def _pinged(self, task: asyncio.Task[None]) -> None:
        if self._pinging is task:
            self._pinging = None

    async def _body(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._gone is not None:
            self._gone.cancel()


async def whole_run(stream: MuxStream) -> dict[str, Any]:
    """Follow the stream to its end; the last response as JSON. Raises PorticoError."""
    last: events_pb2.Event | None = None
    try:
        async for frames in stream:
            for frame in frames:
                for event in frame.events:
                    if event.HasField("response"):
                        last = event
    finally:
        stream.close()
    if last is None:
        raise PorticoError("the log holds no response")
    return response_json(last.response, last.sequence_number)


def _ended(frames: list[query_pb2.StreamFrame]) -> bool:
    """Whether these are the last: one send fewer for every run."""
    return frames[-1].HasField("end") and frames[-1].end.code == 0


def _session_id(frames: list[query_pb2.StreamFrame] | None) -> str:
    if frames and frames[0].events and frames[0].events[0].HasField("response"):
        return frames[0].events[0].response.session_id
    return ""
