"""One connection that carries many streams: a gateway's.

A link owns its streams. Whoever has news marks a stream as ready; one writer
takes what is ready when the transport is ready, so an idle link adds no delay
and a busy one sends few, large messages. A stream whose window is spent is not
ready, whatever news it has; it holds up no other.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextvars import copy_context

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from portico.core.errors import Draining, InvalidArgument, LimitExceeded, PorticoError, StoreUnavailable
from portico.core.log.reader import READ_BYTES, LogReader
from portico.core.runs.run_engine import RunEngine
from portico.core.services.rpc import audit_log
from portico.core.services.rpc.authentication import StreamChecks
from portico.core.services.rpc.current_principal import call_as
from portico.core.services.rpc.dispatch import code_name, error_status, parse, status_of
from portico.core.services.rpc.drain import Drain
from portico.core.services.rpc.rate_limits import RateExceeded
from portico.core.services.rpc.trace_context import enter_stream
from portico.core.services.run_readers import open_query, open_watch, opened
from portico.core.wire import varint
from portico.model.identity import Principal
from portico.telemetry.calls import Call, Calls
from portico.v1 import query_pb2 as pb

WINDOW_BYTES = 256 * 1024
MESSAGE_BYTES = 512 * 1024  # what one response carries, about
STREAMS = 20_000  # of one link
ENDS = 3 * STREAMS  # parts of last frames that are kept for a caller who does not read
SERVICE = "portico.v1.QueryService"
METHOD = f"/{SERVICE}/Multiplex"


class _Stream:
    """One query or watch of a link."""

    __slots__ = (
        *("call", "closed", "credit", "deadline", "fetched", "head", "link", "opening", "reader"),
        *("request", "stream_id", "told", "who"),
    )

    def __init__(self, link: "Link", stream_id: int) -> None:
        self.link = link
        self.stream_id = stream_id
        self.head = b"\x10" + varint(stream_id) + b"\x18"  # stream_id, and the tag of size_bytes
        self.told: tuple[bytes, ...] = ()  # a frame that goes before its first
        self.credit = WINDOW_BYTES
        self.closed = False
        self.reader: LogReader | None = None
        self.fetched: bytes | None = None  # what came from the store, not yet sent
        self.opening: asyncio.Task[None] | None = None  # opens the stream, or fetches from the store
        self.deadline: asyncio.TimerHandle | None = None
        self.call: Call | None = None  # what is seen of it
        self.request: pb.StreamAction | None = None  # until it is answered
        self.who: Principal | None = None  # as soon as that is known

    def notify(self) -> None:
        """There may be something to send."""
        if self.credit > 0 and not self.closed:
            self.link.ready[self.stream_id] = self
            self.link.wake.set()

    def attach(self, reader: LogReader) -> None:
        self.reader = reader
        self.note("OK", reader.run_id)
        reader.subscribe(self.notify)
        self.notify()

    def note(self, code: str, run_id: str = "") -> None:
        """How the request for it ended, once."""
        request, self.request = self.request, None
        if request is None:
            return
        by = audit_log.By(self.who, request.metadata)
        if request.HasField("query"):
            audit_log.note("Query", request.query, code=code, run_id=run_id, by=by)
        else:
            audit_log.note("WatchRun", request.watch, code=code, run_id=run_id, by=by)

    def close(self, code: str = "CANCELLED") -> None:
        """Release everything; the run goes on."""
        self.closed = True
        self.note(code)
        if self.call is not None:
            self.call.end(code)
        if self.opening is not None:
            self.opening.cancel()
        if self.deadline is not None:
            self.deadline.cancel()
        if self.reader is not None:
            self.reader.unsubscribe(self.notify)
            self.reader.close()


class Link:
    """The server's end of one Multiplex call."""

    def __init__(
        self,
        engine: RunEngine,
        requests: AsyncIterator[bytes],
        drain: Drain,
        authentication: StreamChecks,
        calls: Calls | None = None,
    ) -> None:
        """`calls` sees the streams, each as a call."""
        self.ready: dict[int, _Stream] = {}
        self.wake = asyncio.Event()
        self._engine = engine
        self._requests = requests
        self._drain = drain
        self._authentication = authentication
        self._calls = calls or Calls()
        self._streams: dict[int, _Stream] = {}
        self._ends: list[bytes] = []  # encoded last frames, and those of limits, not yet sent
        self._sent = asyncio.Event()  # set when those were taken
        self._reading: asyncio.Task[None] | None = None

    async def responses(self) -> AsyncIterator[bytes]:
        """Encoded responses, until the caller has closed its side and every stream has ended."""
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(lambda _: self.wake.set())
        with self._drain.watching(self._cut):
            while True:
                await self.wake.wait()
                self.wake.clear()
                response = self._gather()
                if response:
                    yield response
                if self._reading.done():
                    self._reading.result()
                    if not self._streams and not self._ends:
                        return

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()

    async def _read(self) -> None:
        async for data in self._requests:
            request = parse(pb.MultiplexRequest, data)
            if not request.actions:
                raise InvalidArgument("actions", "at least one is required")
            for action in request.actions:
                self._act(action)
            while len(self._ends) > ENDS:
                # Its caller is refused more than it reads.
                self._sent.clear()
                await self._sent.wait()

    def _act(self, action: pb.StreamAction) -> None:
        match action.WhichOneof("action"):
            case "credit":
                self._credit(action.stream_id, action.credit.size_bytes)
            case "stop":
                if (stream := self._streams.get(action.stream_id)) is not None:
                    self._drop(stream)
            case "query" | "watch":
                self._open(action)
            case _:
                self._refuse(action.stream_id, InvalidArgument("action", "set query, watch, stop or credit"))

    def _open(self, request: pb.StreamAction) -> None:
        stream_id = request.stream_id
        if not stream_id or stream_id in self._streams:
            self._refuse(stream_id, InvalidArgument("stream_id", "must be from 1 and used once"))
            return
        stream = self._streams[stream_id] = _Stream(self, stream_id)
        stream.request = request
        try:
            if len(self._streams) > STREAMS:
                raise LimitExceeded("streams", f"one link carries at most {STREAMS} streams")
            if self._drain.cutting:
                raise Draining
            if request.HasField("timeout"):
                self._arm(stream, request.timeout.seconds + request.timeout.nanos / 1e9)
            query = request.HasField("query")
            method = "Query" if query else "WatchRun"
            # What starts a run is seen as that run's span, in the same trace, and costs no second one.
            stream.call = self._calls.begin(f"{SERVICE}/{method}", request.metadata, span=not query)
            who = stream.who = self._authentication.at_once(request.metadata)
            if who is None:
                self._later(stream, self._authenticated(stream, request, method))
                return
            self._tell(stream, self._authentication.admit(who, method))
            copy_context().run(self._begin, stream, request, who)
        except Exception as error:
            self._fail(stream, error)

    def _begin(self, stream: _Stream, request: pb.StreamAction, who: Principal) -> None:
        """In a context of the stream's own. What goes wrong is noted where it is known who calls."""
        call_as(who)
        enter_stream(request.metadata, stream.call)
        try:
            reader = self._opened(request)
        except Exception as error:
            stream.note(audit_log.code_of(error))
            raise
        if isinstance(reader, LogReader):
            stream.attach(reader)
        else:
            self._later(stream, reader)

    def _opened(self, request: pb.StreamAction) -> LogReader | Awaitable[LogReader]:
        if request.HasField("query"):
            return open_query(self._engine, request.query)
        return open_watch(self._engine, request.watch)

    async def _authenticated(self, stream: _Stream, request: pb.StreamAction, method: str) -> LogReader:
        who = stream.who = await self._authentication.check(request.metadata)
        self._tell(stream, self._authentication.admit(who, method))
        call_as(who)
        enter_stream(request.metadata, stream.call)
        return await opened(self._opened(request))

    def _later(self, stream: _Stream, opening: Awaitable[LogReader]) -> None:
        async def work() -> None:
            try:
                reader = await opening
            except Exception as error:
                stream.note(audit_log.code_of(error))
                stream.opening = None
                self._fail(stream, error)
                return
            stream.opening = None
            stream.attach(reader)

        stream.opening = asyncio.create_task(work())

    def _fetch(self, stream: _Stream, reader: LogReader) -> None:
        """Read from the store, for a stream that is behind what memory holds."""

        async def work() -> None:
            try:
                stream.fetched = await reader.fetch()
            except Exception as error:
                stream.opening = None
                self._end(stream, error_status(error, METHOD))
                return
            stream.opening = None
            stream.notify()

        stream.opening = asyncio.create_task(work())

    def _arm(self, stream: _Stream, seconds: float) -> None:
        code = grpc.StatusCode.DEADLINE_EXCEEDED
        status = status_of(code, "", "the stream's time is over", {})
        stream.deadline = asyncio.get_running_loop().call_later(max(seconds, 0), self._end, stream, status)

    def _credit(self, stream_id: int, size: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and size > 0:
            stream.credit = min(stream.credit + size, WINDOW_BYTES)
            stream.notify()

    def _gather(self) -> bytes:
        """What is ready, as one encoded response; what does not fit stays ready."""
        parts, self._ends = self._ends, []
        self._sent.set()
        size = 0
        ready = self.ready
        while ready and size < MESSAGE_BYTES:
            stream = ready.pop(next(iter(ready)))
            size += self._take(stream, parts)
        if ready:
            self.wake.set()
        return b"".join(parts)

    def _take(self, stream: _Stream, parts: list[bytes]) -> int:
        reader = stream.reader
        if reader is None or stream.opening is not None:
            return 0
        data = stream.fetched
        if data is None:
            try:
                data = reader.poll(READ_BYTES)
            except StoreUnavailable as error:
                self._end(stream, error_status(error, METHOD))
                return 0
            if data is None:
                self._fetch(stream, reader)
                return 0
        stream.fetched = None
        end = b""
        if reader.finished:
            end = b"\x22\x00"  # an end with code OK
            self._drop(stream, "OK")
        elif not data:
            return 0
        body = b"".join((data, stream.head, varint(len(data)), end))
        parts += (*stream.told, b"\x0a", varint(len(body)), body)
        stream.told = ()
        stream.credit -= len(data)
        if not end and reader.behind:
            stream.notify()
        return len(body)

    def _drop(self, stream: _Stream, code: str = "CANCELLED") -> None:
        stream.close(code)
        self._streams.pop(stream.stream_id, None)
        self.ready.pop(stream.stream_id, None)

    def _tell(self, stream: _Stream, rate_limits: bytes) -> None:
        """What its caller is to know of the limits on its calls. It goes with the stream's first events, or
        its end: a response of its own would cost as much as a short reply's."""
        if rate_limits:
            tagged = b"".join((stream.head[:-1], b"\x2a", varint(len(rate_limits)), rate_limits))
            stream.told = (b"\x0a", varint(len(tagged)), tagged)

    def _fail(self, stream: _Stream, error: Exception) -> None:
        """It could not be opened."""
        if isinstance(error, RateExceeded):
            self._tell(stream, error.told)
        self._end(stream, error_status(error, METHOD))

    def _end(self, stream: _Stream, status: Status) -> None:
        """The stream ends with an error; the frame goes out with the next response."""
        if stream.stream_id not in self._streams:
            return
        self._drop(stream, code_name(status))
        self._ends += stream.told
        self._add_end(stream.stream_id, status)

    def _refuse(self, stream_id: int, error: PorticoError) -> None:
        """What has this id ends, and nobody else's streams. One that is open ends too: its caller could not
        tell its frames from those of the one that is refused."""
        status = error_status(error, METHOD)
        stream = self._streams.get(stream_id)
        if stream is None:
            self._add_end(stream_id, status)
        else:
            self._end(stream, status)

    def _add_end(self, stream_id: int, status: Status) -> None:
        end = pb.StreamEnd(code=status.code, message=status.message)
        info = ErrorInfo()
        if status.details and status.details[0].Unpack(info):
            end.reason = info.reason
            end.metadata.update(info.metadata)
        frame = pb.StreamFrame(stream_id=stream_id, end=end).SerializeToString()
        self._ends += (b"\x0a", varint(len(frame)), frame)
        self.wake.set()

    def _cut(self) -> None:
        for stream in tuple(self._streams.values()):
            self._end(stream, error_status(Draining(), METHOD))
