"""Follows one run over a call of its own."""

import asyncio
from collections.abc import Iterator
from itertools import islice

import grpc.aio

from portico.client.connection import Calls
from portico.client.errors import (
    ClosedEarly,
    PorticoError,
    RunFailed,
    Unavailable,
    is_transient,
    typed_errors,
)
from portico.client.streams.backoff import Outage
from portico.client.streams.read_position import ReadPosition, ReadProgress
from portico.client.streams.text_collector import TextCollector
from portico.v1 import events_pb2, query_pb2

# Shorter before the first event: a wrong address must not take a minute to be reported.
_START_SECONDS = 10.0
_REFUSALS = 3  # consecutive refusals
_FAILED = (events_pb2.RUN_STATUS_FAILED, events_pb2.RUN_STATUS_REJECTED)

_Frame = query_pb2.QueryResponse | query_pb2.WatchRunResponse
_FrameCall = (
    grpc.aio.UnaryStreamCall[query_pb2.QueryRequest, query_pb2.QueryResponse]
    | grpc.aio.UnaryStreamCall[query_pb2.WatchRunRequest, query_pb2.WatchRunResponse]
)


class RunStream:
    """Yields a run's events in order, each once, up to its end or a pause.

    When the connection breaks, the stream resumes by itself, for at most resume_timeout seconds. Iterate
    within `async with`, or call aclose: leaving the loop early does not end a call in grpc. Garbage
    collection of the stream ends it too.
    """

    def __init__(
        self,
        calls: Calls,
        query: query_pb2.QueryRequest | None,
        progress: ReadProgress,
        resume_timeout: float,
    ) -> None:
        self._calls = calls
        self._query = query
        self._received = progress
        self._resume_timeout = resume_timeout
        self._outage = Outage(resume_timeout if query is None else min(resume_timeout, _START_SECONDS))
        self._call: _FrameCall | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: Iterator[events_pb2.Event] = iter(())
        self._last_number = progress.last_number
        self._response: events_pb2.Response | None = None
        self._closed_early = 0
        self._ended = False

    @property
    def run_id(self) -> str:
        """The run's id; empty until a query's first event has arrived."""
        return self._received.run_id

    @property
    def last_sequence_number(self) -> int | None:
        """The cursor: the number of the last returned event."""
        return self._last_number

    @property
    def response(self) -> events_pb2.Response | None:
        """The run's response at its last pause or its end; None before."""
        return self._response

    def __aiter__(self) -> "RunStream":
        return self

    async def __anext__(self) -> events_pb2.Event:
        """Returns the next event. Raises PorticoError when the run cannot be followed any further."""
        while True:
            for event in self._events:
                self._last_number = event.sequence_number
                return event
            if self._ended:
                raise StopAsyncIteration
            await self._next_frame()

    async def next_events(self) -> list[events_pb2.Event]:
        """Returns all events that are ready, at least one; empty at the end. Raises PorticoError."""
        while True:
            events = list(self._events)
            if events:
                self._last_number = events[-1].sequence_number
            if events or self._ended:
                return events
            await self._next_frame()

    async def text(self) -> str:
        """Reads to the end; returns the text of the run's messages after the current position.

        Raises RunFailed when the run failed or was rejected.
        """
        collector = TextCollector()
        while events := await self.next_events():
            for event in events:
                collector.take_in(event)
        response = self._response
        if response is not None and response.status in _FAILED:
            raise RunFailed(
                response.error.message, reason=response.error.code, metadata={"run_id": response.id}
            )
        return collector.text

    async def aclose(self) -> None:
        """Stops reading. A foreground run is cancelled when it has no other reader."""
        self._ended = True
        self._events = iter(())
        self._drop_call()

    async def __aenter__(self) -> "RunStream":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        call, loop = self._call, self._loop
        # Garbage collection may happen in any thread; a call must be cancelled on its event loop.
        if call is not None and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(call.cancel)

    async def _next_frame(self) -> None:
        """Accepts one frame or the end, and resumes as often as necessary."""
        while True:
            try:
                frame = await self._read()
            except PorticoError as error:
                self._drop_call()
                if self._received.place is ReadPosition.END:
                    # All events have arrived; how the call ended no longer matters.
                    self._ended = True
                    return
                if not is_transient(error) or self._certificate_is_refused(error):
                    raise
                await self._wait_to_resume(error)
                continue
            if frame is None:
                self._ended = True
                self._drop_call()
            else:
                self._take_in(frame)
            return

    def _certificate_is_refused(self, error: PorticoError) -> bool:
        """Returns whether the core, which has sent no event yet, rejects this client's certificate.

        A stopping core may close a connection in the same way, but not several times in a row.
        """
        again = isinstance(error, ClosedEarly) and error.after_handshake and self._calls.connection.secure
        self._closed_early = self._closed_early + 1 if again else 0
        return self._query is not None and self._closed_early >= _REFUSALS

    async def _read(self) -> _Frame | None:
        try:
            with typed_errors():
                if self._call is None:
                    self._loop = asyncio.get_running_loop()
                    self._call = self._open()
                    await self._call.wait_for_connection()
                    self._outage.opened()
                frame = await self._call.read()
        except asyncio.CancelledError:
            # The call is lost; a reader that continues resumes.
            self._drop_call()
            raise
        if isinstance(frame, _Frame):
            return frame
        if self._received.place is ReadPosition.WITHIN:
            raise Unavailable("the stream ended before the run did")
        return None

    def _open(self) -> _FrameCall:
        runs = self._calls.connection.runs
        if self._query is not None:
            return runs.Query(self._query, metadata=self._calls.metadata)
        request = query_pb2.WatchRunRequest(run_id=self.run_id, after_sequence_number=self._received.resume())
        return runs.WatchRun(request, metadata=self._calls.metadata)

    def _take_in(self, frame: _Frame) -> None:
        events = frame.events
        if not events:
            return
        repeats = self._received.add_frame(events)
        if self._query is not None:
            self._query = None
            self._outage = Outage(self._resume_timeout)
        self._outage.ended()
        self._events = islice(events, repeats, None)
        if self._received.place is not ReadPosition.WITHIN:
            self._response = events[-1].response

    async def _wait_to_resume(self, error: PorticoError) -> None:
        left = self._outage.broke()
        if left <= 0:
            raise error
        await asyncio.sleep(min(self._outage.backoff.next_delay(), left))

    def _drop_call(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
