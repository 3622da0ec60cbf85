"""The events of one run on a multiplexed connection.

    waiting --opened--> flowing --StreamEnd--> ended
       ^                   |
       +------- cut -------+   (connection lost, or StreamEnd DRAINING)

When a stream is opened again, events that its consumer has not read are discarded and read from the log
again: a stream never holds more than a window.
"""

import asyncio
from collections.abc import Callable
from copy import copy
from time import monotonic
from types import TracebackType
from typing import Protocol, TypeAlias

from portico.client import rate_limits
from portico.client.convert import to_duration
from portico.client.errors import (
    DeadlineExceeded,
    PorticoError,
    ProtocolError,
    Unavailable,
    error_from_stream_end,
    is_transient,
)
from portico.client.streams.backoff import Outage
from portico.client.streams.read_position import ReadPosition, ReadProgress
from portico.v1 import query_pb2

WINDOW_BYTES = 256 * 1024
# Half a window: a short run costs no credit message, a long one two per window.
_CREDIT_BYTES = WINDOW_BYTES // 2
# A frame keeps the whole response in memory that contained it, frames of other runs included.
_SHARED_FRAMES = 8
_STATUS_OK = 0

AtOnce: TypeAlias = Callable[[list[query_pb2.StreamFrame]], bool]


class StreamCarrier(Protocol):
    """The operations that a stream needs from the connection that carries it."""

    def wake(self, stream: "MultiplexedStream") -> None:
        """Schedules the stream's next request for sending."""

    def forget(self, stream: "MultiplexedStream") -> None:
        """Stops delivering frames to an ended stream."""

    def reopen(self, stream: "MultiplexedStream") -> None:
        """Opens the stream under a new id."""


class MultiplexedStream:
    """Follows one run. It has one consumer, which must close it."""

    def __init__(
        self,
        carrier: StreamCarrier,
        opening: query_pb2.StreamAction,
        progress: ReadProgress,
        *,
        timeout: float | None,
        resume_timeout: float,
    ) -> None:
        # Set by the carrier: the id on this connection, and whether the stream is in the queue of streams
        # that have something to send.
        self.stream_id = 0
        self.queued = False
        self.opening_bytes = opening.ByteSize()

        self._carrier = carrier
        self._opening = opening
        self._deadline = None if timeout is None else monotonic() + timeout
        self._resume_timeout = resume_timeout
        self._loop = asyncio.get_running_loop()

        # The received events, and the part that the consumer has read: a resume begins after that part.
        self._received = progress
        self._taken = progress.mark()
        self._frames: list[query_pb2.StreamFrame] = []
        self._waiter: asyncio.Future[None] | None = None
        self._at_once: AtOnce | None = None
        self._ended = False
        self._error: PorticoError | None = None

        self._is_open = False
        self._untaken_bytes = 0
        self._unpaid_bytes = 0

        self._outage = Outage(resume_timeout)
        self._cause: PorticoError | None = None
        self._observer = rate_limits.observer()
        self._expiry: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None

    @property
    def run_id(self) -> str:
        """The run's id; empty until a query's first event has arrived."""
        return self._received.run_id

    @property
    def last_sequence_number(self) -> int | None:
        """The number of the last event that next_frames has returned."""
        next_number, _ = self._taken
        return next_number - 1 if next_number else None

    async def next_frames(self, at_once: AtOnce | None = None) -> list[query_pb2.StreamFrame] | None:
        """Returns all frames that are ready, at least one; None when the log has ended or paused.

        Args:
            at_once: Called with frames that arrive while this waits, except for the end, in the step that
                receives them: a switch to this task costs more than a token. It returns whether it has
                consumed all of them.

        Raises:
            PorticoError: The stream failed, after the earlier frames were returned; or `at_once` raised it.
        """
        while not self._frames:
            if self._error is not None:
                # Other streams may fail for the same reason and share this exception instance.
                raise copy(self._error)
            if self._ended:
                return None
            self._waiter = self._loop.create_future()
            self._at_once = at_once
            try:
                await self._waiter
            finally:
                self._waiter = self._at_once = None
        return self._take()

    def _take(self) -> list[query_pb2.StreamFrame]:
        frames = self._frames
        self._frames = []
        self._taken = self._received.mark()
        self._unpaid_bytes += self._untaken_bytes
        self._untaken_bytes = 0
        if self._unpaid_bytes >= _CREDIT_BYTES and self._is_open and not self._ended:
            self._carrier.wake(self)
        return frames

    def __aiter__(self) -> "MultiplexedStream":
        return self

    async def __anext__(self) -> list[query_pb2.StreamFrame]:
        frames = await self.next_frames()
        if frames is None:
            raise StopAsyncIteration
        return frames

    def close(self) -> None:
        """Stops following; the run itself continues. Does nothing when called again."""
        self._frames.clear()
        self._error = None
        if not self._ended:
            self.finish(None)

    def __enter__(self) -> "MultiplexedStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The carrier's side begins here.

    def next_action(self) -> query_pb2.StreamAction | None:
        """Returns the action to send now, if there is one."""
        if self._ended:
            if not self._is_open:
                return None
            self._is_open = False
            return query_pb2.StreamAction(stream_id=self.stream_id, stop=query_pb2.Stop())
        if not self._is_open:
            return self._open() if self._retry is None else None
        if self._unpaid_bytes < _CREDIT_BYTES:
            return None
        credit = query_pb2.Credit(size_bytes=self._unpaid_bytes)
        self._unpaid_bytes = 0
        return query_pb2.StreamAction(stream_id=self.stream_id, credit=credit)

    def deliver(self, frame: query_pb2.StreamFrame) -> None:
        """Accepts one frame. Hot path: no await, no copy, no loop over the events."""
        events = frame.events
        if events:
            try:
                repeats = self._received.add_frame(events)
            except ProtocolError as error:
                self.finish(error)
                return
            if self._outage.lasts:
                self._outage.ended()
            self._untaken_bytes += frame.size_bytes
            if repeats:
                del events[:repeats]
            if events:
                self._frames.append(frame if len(self._frames) < _SHARED_FRAMES else _detached(frame))
        elif frame.HasField("rate_limits"):
            if self._observer is not None:
                self._observer(rate_limits.limits_of(frame.rate_limits))
            return
        if frame.HasField("end"):
            self._on_end(frame.end)
        elif self._at_once is not None and self._frames:
            self._offer(self._at_once)
            return
        self._notify()

    def cut(self, cause: PorticoError) -> None:
        """Records the loss of the connection; the stream fails unless it is opened again in time."""
        self._is_open = False
        if self._received.place is ReadPosition.END:
            # All events have arrived; how the stream ended no longer matters.
            self.finish(None)
            return
        self._cause = cause
        seconds = self._outage.broke()
        if self._deadline is not None:
            seconds = min(seconds, self._deadline - monotonic())
        if self._expiry is None:
            self._expiry = self._loop.call_later(max(seconds, 0), self._expire)

    def finish(self, error: PorticoError | None) -> None:
        """Ends the stream; an error is raised after the frames that preceded it."""
        self._ended = True
        self._error = error
        self._stop_timers()
        self._carrier.forget(self)
        if self._is_open:
            # The server still considers the stream open.
            self._carrier.wake(self)
        self._notify()

    def _open(self) -> query_pb2.StreamAction:
        self._frames.clear()
        self._received.go_back(self._taken)
        self._untaken_bytes = 0
        self._unpaid_bytes = 0
        self._is_open = True
        self._stop_timers()
        self._outage.opened()
        request = self._opening
        request.stream_id = self.stream_id
        if self.run_id:
            request.watch.run_id = self.run_id
            after = self._received.resume()
            if after is not None:
                request.watch.after_sequence_number = after
        if self._deadline is not None:
            request.timeout.CopyFrom(to_duration(max(self._deadline - monotonic(), 0.001)))
        return request

    def _on_end(self, end: query_pb2.StreamEnd) -> None:
        self._is_open = False
        if end.code == _STATUS_OK:
            if self._received.place is not ReadPosition.WITHIN:
                self.finish(None)
                return
            cause: PorticoError = Unavailable("the stream ended before the run did")
        else:
            cause = error_from_stream_end(end)
            if not is_transient(cause):
                self.finish(cause)
                return
        self.cut(cause)
        if not self._ended:
            self._retry = self._loop.call_later(self._outage.backoff.next_delay(), self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._carrier.reopen(self)

    def _expire(self) -> None:
        if self._deadline is not None and monotonic() >= self._deadline:
            self.finish(DeadlineExceeded("the stream's timeout passed"))
            return
        assert self._cause is not None, "a stream that expires was cut"
        problem = f"not resumed within {self._resume_timeout:g} s: {self._cause.message}"
        self.finish(Unavailable(problem, reason=self._cause.reason, metadata=self._cause.metadata))

    def _stop_timers(self) -> None:
        for timer in (self._expiry, self._retry):
            if timer is not None:
                timer.cancel()
        self._expiry = self._retry = None

    def _offer(self, at_once: AtOnce) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return  # the consumer processes these too
        try:
            taken = at_once(self._frames)
        except Exception as error:
            # The exception belongs to the consumer and must not end the connection's reader.
            waiter.set_exception(error)
            return
        if taken:
            self._take()
        else:
            self._notify()

    def _notify(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _detached(frame: query_pb2.StreamFrame) -> query_pb2.StreamFrame:
    detached = query_pb2.StreamFrame()
    detached.CopyFrom(frame)
    return detached
