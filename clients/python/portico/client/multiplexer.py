"""Many runs over one connection: for gateways, whose cost is then per wake-up and not per token.

One task reads frames and distributes them; another writes the streams' requests. A stream is in the
writer's queue at most once, so the number of streams bounds the queue. When the connection breaks, its
streams are opened again on the next connection, each after the last event that its consumer has read.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context

import grpc
import grpc.aio

from portico.client.client import Client
from portico.client.connection import MAX_MESSAGE_BYTES
from portico.client.errors import (
    Cancelled,
    HandshakeFailed,
    InvalidArgument,
    PorticoError,
    ResourceExhausted,
    Unavailable,
    typed_errors,
)
from portico.client.multiplexed_stream import MultiplexedStream
from portico.client.run_request import automatic_idempotency_key
from portico.client.streams.backoff import Backoff
from portico.client.streams.read_position import ReadProgress
from portico.client.trace_context import stream_in_trace
from portico.v1 import query_pb2, query_pb2_grpc

_Call = grpc.aio.StreamStreamCall[query_pb2.MultiplexRequest, query_pb2.MultiplexResponse]

_GATHERED_BYTES = 256 * 1024
_OVERHEAD_BYTES = 1024  # added to an action by its message


class Multiplexer:
    """One QueryService.Multiplex connection, opened on first use and reconnected when it breaks."""

    def __init__(
        self,
        source: Client | grpc.aio.Channel,
        *,
        resume_timeout: float = 30.0,
        max_waiting: int = 10_000,
    ) -> None:
        self._source = source
        self._resume_timeout = resume_timeout
        self._max_waiting = max_waiting
        self._ids = itertools.count(1)
        self._streams: dict[int, MultiplexedStream] = {}
        self._outgoing: deque[MultiplexedStream] = deque()
        self._wake = asyncio.Event()
        self._backoff = Backoff()
        self._connected = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def open_query(
        self,
        query: query_pb2.QueryRequest,
        *,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> MultiplexedStream:
        """Starts a run and follows it; the metadata and the timeout (seconds) apply to this stream only.

        A request without an idempotency key gets one, so that it can be sent again.

        Raises:
            ResourceExhausted: Too many streams wait to be sent.
            InvalidArgument: The request is too large.
            Cancelled: The multiplexer is closed.
        """
        opening = query_pb2.StreamAction(query=query, metadata=stream_in_trace(metadata))
        if not query.idempotency_key:
            opening.query.idempotency_key = automatic_idempotency_key()
        return self._open(opening, ReadProgress("", None), timeout)

    def open_watch(
        self,
        watch: query_pb2.WatchRunRequest,
        *,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> MultiplexedStream:
        """Follows a run from a cursor. Raises the same errors as open_query."""
        opening = query_pb2.StreamAction(watch=watch, metadata=stream_in_trace(metadata))
        after = watch.after_sequence_number if watch.HasField("after_sequence_number") else None
        return self._open(opening, ReadProgress(watch.run_id, after), timeout)

    async def close(self) -> None:
        """Closes the connection; open streams raise Cancelled."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def __aenter__(self) -> "Multiplexer":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _open(
        self, opening: query_pb2.StreamAction, progress: ReadProgress, timeout: float | None
    ) -> MultiplexedStream:
        if self._closed:
            raise Cancelled("the multiplexer is closed")
        if len(self._outgoing) >= self._max_waiting:
            raise ResourceExhausted(f"{self._max_waiting} streams wait to be sent to the core")
        if opening.ByteSize() > MAX_MESSAGE_BYTES - _OVERHEAD_BYTES:
            # A larger message would end the connection for all streams.
            raise InvalidArgument(f"the request is larger than {MAX_MESSAGE_BYTES} bytes")
        stream = MultiplexedStream(
            self, opening, progress, timeout=timeout, resume_timeout=self._resume_timeout
        )
        if not self._connected:
            stream.cut(Unavailable("no connection to the core"))
        self.reopen(stream)
        if self._task is None:
            # The connection serves all callers, and so belongs to no caller's trace.
            self._task = asyncio.create_task(self._run(), name="portico multiplexer", context=Context())
        return stream

    # Methods of StreamCarrier, called by the streams.

    def wake(self, stream: MultiplexedStream) -> None:
        if not stream.queued:
            stream.queued = True
            self._outgoing.append(stream)
            self._wake.set()

    def forget(self, stream: MultiplexedStream) -> None:
        self._streams.pop(stream.stream_id, None)

    def reopen(self, stream: MultiplexedStream) -> None:
        # An id is never reused on one connection.
        self.forget(stream)
        stream.stream_id = next(self._ids)
        self._streams[stream.stream_id] = stream
        self.wake(stream)

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._on_loss(await self._carry())
                if self._streams:
                    await asyncio.sleep(self._backoff.next_delay())
        finally:
            self._closed = True
            self._end_all(Cancelled("the multiplexer was closed"))

    async def _carry(self) -> PorticoError:
        """Serves one connection until it ends; returns the cause."""
        writer: asyncio.Task[None] | None = None
        call: _Call | None = None
        try:
            with typed_errors():
                call = self._call()
                await call.wait_for_connection()
                self._connected = True
                writer = asyncio.create_task(self._write(call), name="portico multiplexer writer")
                await self._read(call)
        except PorticoError as error:
            return error
        finally:
            self._connected = False
            if writer is not None:
                writer.cancel()
            if call is not None:
                call.cancel()
        return Unavailable("the core ended the connection")

    def _call(self) -> _Call:
        if isinstance(self._source, Client):
            calls = self._source.calls
            return calls.connection.runs.Multiplex(metadata=calls.metadata)
        return query_pb2_grpc.QueryServiceStub(self._source).Multiplex()

    async def _read(self, call: _Call) -> None:
        streams = self._streams
        while isinstance(response := await call.read(), query_pb2.MultiplexResponse):
            for frame in response.frames:
                stream = streams.get(frame.stream_id)
                # None: the stream was closed here while the frame was in transit.
                if stream is not None:
                    stream.deliver(frame)
            self._backoff.reset()

    async def _write(self, call: _Call) -> None:
        outgoing = self._outgoing
        # A write fails when the call has ended; the reader gets the status.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                while outgoing:
                    actions = self._gather()
                    if actions:
                        await call.write(query_pb2.MultiplexRequest(actions=actions))
                self._wake.clear()
                await self._wake.wait()

    def _gather(self) -> list[query_pb2.StreamAction]:
        """Collects queued actions up to the size of one message: a write costs more than an action."""
        outgoing = self._outgoing
        actions: list[query_pb2.StreamAction] = []
        size = 0
        while outgoing:
            stream = outgoing[0]
            size += stream.opening_bytes
            if actions and size > _GATHERED_BYTES:
                break
            outgoing.popleft()
            stream.queued = False
            action = stream.next_action()
            if action is not None:
                actions.append(action)
        return actions

    def _on_loss(self, cause: PorticoError) -> None:
        if not isinstance(cause, Unavailable) or isinstance(cause, HandshakeFailed):
            # A retry would fail in the same way.
            self._end_all(cause)
        for stream in self._outgoing:
            stream.queued = False
        self._outgoing.clear()
        self._wake.clear()
        for stream in list(self._streams.values()):
            stream.cut(cause)
            self.wake(stream)

    def _end_all(self, error: PorticoError) -> None:
        for stream in list(self._streams.values()):
            stream.finish(error)
