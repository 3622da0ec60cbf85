"""Multiplexed streams: one gRPC call that carries many queries and watches, for gateways.

A Link owns the streams of one call. A stream with new data marks itself ready;
one writer takes the data of ready streams when the transport is ready. So an idle
link adds no delay and a busy one sends few, large messages. A stream whose
flow-control window is used up is not ready, and does not block the others.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextvars import copy_context

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from portico.core import wire
from portico.core.errors import DomainError, Draining, InvalidArgument, LimitExceeded, StoreUnavailable
from portico.core.log.reader import READ_BYTES, LogReader
from portico.core.runs.run_engine import RunEngine
from portico.core.services.rpc import audit_log
from portico.core.services.rpc.authentication import StreamAuthenticator
from portico.core.services.rpc.current_principal import bind_principal
from portico.core.services.rpc.dispatch import code_name, error_status, parse, status_of
from portico.core.services.rpc.drain import Drain
from portico.core.services.rpc.rate_limits import RateExceeded
from portico.core.services.rpc.trace_context import bind_stream_context
from portico.core.services.run_readers import open_log_reader, open_run_reader, wait_reader
from portico.core.wire import encode_varint, length_delimited
from portico.model.identity import Principal
from portico.telemetry.tracing.rpc_telemetry import RpcSpan, RpcTelemetry
from portico.v1 import query_pb2 as pb

WINDOW_BYTES = 256 * 1024
MESSAGE_BYTES = 512 * 1024  # approximate size limit of one response
MAX_STREAMS = 20_000  # most streams of one link
MAX_PENDING_ENDS = 3 * MAX_STREAMS  # most parts of final frames to buffer for a caller that does not read
SERVICE = "portico.v1.QueryService"
METHOD = f"/{SERVICE}/Multiplex"


class MultiplexStream:
    """One query or watch on a link."""

    __slots__ = (
        *("call", "closed", "credit", "deadline", "fetched", "field", "head", "link", "opening", "reader"),
        *("request", "stream_id", "told", "who"),
    )

    def __init__(self, link: "MultiplexConnection", stream_id: int) -> None:
        self.link = link
        self.stream_id = stream_id
        self.field = wire.STREAM_ID + encode_varint(stream_id)  # the field stream_id of its frames
        self.head = self.field + wire.SIZE_BYTES
        self.told: tuple[bytes, ...] = ()  # a frame to send before the first one
        self.credit = WINDOW_BYTES
        self.closed = False
        self.reader: LogReader | None = None
        self.fetched: bytes | None = None  # events read from the store, not yet sent
        self.opening: asyncio.Task[None] | None = None  # opens the stream, or reads from the store
        self.deadline: asyncio.TimerHandle | None = None
        self.call: RpcSpan | None = None  # its telemetry
        self.request: pb.StreamAction | None = None  # None once it is answered
        self.who: Principal | None = None  # None until it is authenticated

    def notify(self) -> None:
        """Marks the stream ready: there may be data to send."""
        if self.credit > 0 and not self.closed:
            self.link.ready[self.stream_id] = self
            self.link.wake.set()

    def attach(self, reader: LogReader) -> None:
        self.reader = reader
        self.note("OK", reader.run_id)
        reader.subscribe(self.notify)
        self.notify()

    def note(self, code: str, run_id: str = "") -> None:
        """Writes the audit line of the stream's request, once."""
        request, self.request = self.request, None
        if request is None:
            return
        by = audit_log.CallIdentity(self.who, request.metadata)
        if request.HasField("query"):
            audit_log.record_call("Query", request.query, code=code, run_id=run_id, by=by)
        else:
            audit_log.record_call("WatchRun", request.watch, code=code, run_id=run_id, by=by)

    def close(self, code: str = "CANCELLED") -> None:
        """Releases all resources; the run continues."""
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


class MultiplexConnection:
    """Server side of one Multiplex call."""

    def __init__(
        self,
        engine: RunEngine,
        requests: AsyncIterator[bytes],
        drain: Drain,
        authentication: StreamAuthenticator,
        calls: RpcTelemetry | None = None,
    ) -> None:
        """`calls` records telemetry of each stream as a call."""
        self.ready: dict[int, MultiplexStream] = {}
        self.wake = asyncio.Event()
        self._engine = engine
        self._requests = requests
        self._drain = drain
        self._authentication = authentication
        self._calls = calls or RpcTelemetry()
        self._streams: dict[int, MultiplexStream] = {}
        self._ends: list[bytes] = []  # encoded final frames and rate limits, not yet sent
        self._sent = asyncio.Event()  # set when the writer has taken them
        self._reading: asyncio.Task[None] | None = None

    async def responses(self) -> AsyncIterator[bytes]:
        """Yields encoded responses until the caller has closed its side and every stream has ended."""
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(lambda _: self.wake.set())
        with self._drain.register(self._cut):
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
            while len(self._ends) > MAX_PENDING_ENDS:
                # Backpressure: the caller causes refusals faster than it reads them.
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
        stream = self._streams[stream_id] = MultiplexStream(self, stream_id)
        stream.request = request
        try:
            if len(self._streams) > MAX_STREAMS:
                raise LimitExceeded("streams", f"one multiplexed call carries at most {MAX_STREAMS} streams")
            if self._drain.cutting:
                raise Draining
            if request.HasField("timeout"):
                self._arm(stream, request.timeout.seconds + request.timeout.nanos / 1e9)
            query = request.HasField("query")
            method = "Query" if query else "WatchRun"
            # A query needs no span of its own: its run's span is in the same trace.
            stream.call = self._calls.begin(f"{SERVICE}/{method}", request.metadata, span=not query)
            who = stream.who = self._authentication.at_once(request.metadata)
            if who is None:
                self._later(stream, self._authenticated(stream, request, method))
                return
            self._tell(stream, self._authentication.admit(who, method))
            copy_context().run(self._begin, stream, request, who)
        except Exception as error:
            self._fail(stream, error)

    def _begin(self, stream: MultiplexStream, request: pb.StreamAction, who: Principal) -> None:
        """Opens the stream; runs in the stream's own context. Errors are audited here, with the principal."""
        bind_principal(who)
        bind_stream_context(request.metadata, stream.call)
        try:
            reader = self._opened(request)
        except Exception as error:
            stream.note(audit_log.status_code_name(error))
            raise
        if isinstance(reader, LogReader):
            stream.attach(reader)
        else:
            self._later(stream, reader)

    def _opened(self, request: pb.StreamAction) -> LogReader | Awaitable[LogReader]:
        if request.HasField("query"):
            return open_run_reader(self._engine, request.query)
        return open_log_reader(self._engine, request.watch)

    async def _authenticated(
        self, stream: MultiplexStream, request: pb.StreamAction, method: str
    ) -> LogReader:
        who = stream.who = await self._authentication.check(request.metadata)
        self._tell(stream, self._authentication.admit(who, method))
        bind_principal(who)
        bind_stream_context(request.metadata, stream.call)
        return await wait_reader(self._opened(request))

    def _later(self, stream: MultiplexStream, opening: Awaitable[LogReader]) -> None:
        async def work() -> None:
            try:
                reader = await opening
            except Exception as error:
                stream.note(audit_log.status_code_name(error))
                stream.opening = None
                self._fail(stream, error)
                return
            stream.opening = None
            stream.attach(reader)

        stream.opening = asyncio.create_task(work())

    def _fetch(self, stream: MultiplexStream, reader: LogReader) -> None:
        """Reads from the store, for a stream whose cursor is before the events in memory."""

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

    def _arm(self, stream: MultiplexStream, seconds: float) -> None:
        code = grpc.StatusCode.DEADLINE_EXCEEDED
        status = status_of(code, "", "the stream's deadline has passed", {})
        stream.deadline = asyncio.get_running_loop().call_later(max(seconds, 0), self._end, stream, status)

    def _credit(self, stream_id: int, size: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and size > 0:
            stream.credit = min(stream.credit + size, WINDOW_BYTES)
            stream.notify()

    def _gather(self) -> bytes:
        """Collects the data of ready streams into one encoded response; streams that don't fit stay ready."""
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

    def _take(self, stream: MultiplexStream, parts: list[bytes]) -> int:
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
            end = wire.END + b"\x00"  # an empty StreamEnd: the code OK
            self._drop(stream, "OK")
        elif not data:
            return 0
        body = b"".join((data, stream.head, encode_varint(len(data)), end))
        parts += (*stream.told, *length_delimited(wire.FRAMES, body))
        stream.told = ()
        stream.credit -= len(data)
        if not end and reader.is_behind:
            stream.notify()
        return len(body)

    def _drop(self, stream: MultiplexStream, code: str = "CANCELLED") -> None:
        stream.close(code)
        self._streams.pop(stream.stream_id, None)
        self.ready.pop(stream.stream_id, None)

    def _tell(self, stream: MultiplexStream, rate_limits: bytes) -> None:
        """Queues the caller's rate limits. They are sent with the stream's first events or with its end: a
        separate response would cost as much as a short reply."""
        if rate_limits:
            frame = b"".join((stream.field, *length_delimited(wire.RATE_LIMITS, rate_limits)))
            stream.told = length_delimited(wire.FRAMES, frame)

    def _fail(self, stream: MultiplexStream, error: Exception) -> None:
        """Ends a stream that could not be opened."""
        if isinstance(error, RateExceeded):
            self._tell(stream, error.told)
        self._end(stream, error_status(error, METHOD))

    def _end(self, stream: MultiplexStream, status: Status) -> None:
        """Ends a stream with an error; the next response carries the final frame."""
        if stream.stream_id not in self._streams:
            return
        self._drop(stream, code_name(status))
        self._ends += stream.told
        self._add_end(stream.stream_id, status)

    def _refuse(self, stream_id: int, error: DomainError) -> None:
        """Ends the stream with this id, and no other. An open stream with the same id ends too: the caller
        could not distinguish its frames from those of the refused one."""
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
        self._ends += length_delimited(wire.FRAMES, frame)
        self.wake.set()

    def _cut(self) -> None:
        for stream in tuple(self._streams.values()):
            self._end(stream, error_status(Draining(), METHOD))
