"""Wraps async methods as blocking ones that run on the event loop of a separate thread."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from portico.client.errors import Cancelled
from portico.client.paging import ItemT, Listing, PageT
from portico.client.streams.run_stream import RunStream
from portico.v1 import events_pb2

P = ParamSpec("P")
T = TypeVar("T")
ServiceT = TypeVar("ServiceT")
ServiceT_co = TypeVar("ServiceT_co", covariant=True)


class ClientLoopThread:
    """An event loop that runs in a daemon thread until it is closed."""

    def __init__(self) -> None:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def serve() -> None:
            closing = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), closing))
            await closing.wait()

        self._thread = threading.Thread(
            target=lambda: asyncio.run(serve()), name="portico client", daemon=True
        )
        self._thread.start()
        self._loop, self._closing = started.result()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end and returns its result. Raises Cancelled when the thread has ended."""
        if not self._thread.is_alive():
            coroutine.close()
            raise Cancelled("the client is closed")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            # An interruption of the caller, not an error of the coroutine, which must not continue.
            future.cancel()
            raise

    def iterate(self, generator: AsyncGenerator[T, None]) -> Iterator[T]:
        """Iterates over an async generator; leaving the iteration closes it."""

        async def step() -> tuple[bool, T | None]:
            try:
                return True, await anext(generator)
            except StopAsyncIteration:
                return False, None

        async def close() -> None:
            await generator.aclose()

        try:
            while True:
                more, item = self.run(step())
                if not more:
                    return
                yield item  # type: ignore[misc]  # an item of type T, when there is more
        finally:
            if self._thread.is_alive():
                self.run(close())

    def close(self) -> None:
        """Stops the loop. Does nothing when repeated."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()


class BlockingRunStream:
    """A RunStream for iteration without async."""

    def __init__(self, thread: ClientLoopThread, stream: RunStream) -> None:
        self._thread = thread
        self._stream = stream
        self._events: Iterator[events_pb2.Event] = iter(())
        self._last_number = stream.last_sequence_number

    @property
    def run_id(self) -> str:
        """The run's id; empty until a query's first event has arrived."""
        return self._stream.run_id

    @property
    def last_sequence_number(self) -> int | None:
        """The cursor: the number of the last returned event."""
        return self._last_number

    @property
    def response(self) -> events_pb2.Response | None:
        """The run's response at its last pause or its end; None before."""
        return self._stream.response

    def text(self) -> str:
        """Returns the text as RunStream.text does. Raises RunFailed."""
        return self._thread.run(self._stream.text())

    def close(self) -> None:
        """Stops reading as RunStream.aclose does."""
        self._thread.run(self._stream.aclose())

    def __iter__(self) -> "BlockingRunStream":
        return self

    def __next__(self) -> events_pb2.Event:
        event = next(self._events, None)
        if event is None:
            # One visit to the loop for all events that are ready.
            self._events = iter(self._thread.run(self._stream.next_events()))
            event = next(self._events)
        self._last_number = event.sequence_number
        return event

    def __enter__(self) -> "BlockingRunStream":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class BlockingListing(Generic[PageT, ItemT]):
    """A Listing for iteration without async."""

    def __init__(self, thread: ClientLoopThread, listing: Listing[PageT, ItemT]) -> None:
        self._thread = thread
        self._listing = listing

    def page(self) -> PageT:
        """Returns one page as Listing.page does."""
        return self._thread.run(self._listing.page())

    def __iter__(self) -> Iterator[ItemT]:
        for page in self._thread.iterate(self._listing.pages()):
            yield from self._listing.items(page)


class Blocking(Generic[ServiceT_co]):
    """A service whose methods block, methods of the service's base classes included."""

    def __init__(self, thread: ClientLoopThread, service: ServiceT_co) -> None:
        self.thread = thread
        self._service = service

    @property
    def service(self) -> ServiceT_co:
        """The async service on the thread's loop."""
        return self._service


def blocking(
    method: Callable[Concatenate[ServiceT, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocking[ServiceT], P], T]:
    """Returns the blocking form of a coroutine method."""

    @wraps(method)
    def call(self: Blocking[ServiceT], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.thread.run(method(self.service, *args, **kwargs))

    return call


def blocking_stream(
    method: Callable[Concatenate[ServiceT, P], RunStream],
) -> Callable[Concatenate[Blocking[ServiceT], P], BlockingRunStream]:
    """Returns the form of a method that returns a stream for iteration without async."""

    @wraps(method)
    def call(self: Blocking[ServiceT], /, *args: P.args, **kwargs: P.kwargs) -> BlockingRunStream:
        return BlockingRunStream(self.thread, method(self.service, *args, **kwargs))

    return call


def blocking_listing(
    method: Callable[Concatenate[ServiceT, P], Listing[PageT, ItemT]],
) -> Callable[Concatenate[Blocking[ServiceT], P], BlockingListing[PageT, ItemT]]:
    """Returns the form of a method that returns a listing for iteration without async."""

    @wraps(method)
    def call(self: Blocking[ServiceT], /, *args: P.args, **kwargs: P.kwargs) -> BlockingListing[PageT, ItemT]:
        return BlockingListing(self.thread, method(self.service, *args, **kwargs))

    return call


def blocking_iterator(
    method: Callable[Concatenate[ServiceT, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Blocking[ServiceT], P], Iterator[T]]:
    """Returns the form of a method that returns a plain iterator."""

    @wraps(method)
    def call(self: Blocking[ServiceT], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self.thread.iterate(method(self.service, *args, **kwargs))

    return call
