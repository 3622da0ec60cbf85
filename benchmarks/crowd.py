"""Reads many HTTP streams in one thread: an epoll loop that looks only at the end of a reply.

It uses some microseconds per packet, which leaves two cores to the server.
"""

import gc
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from benchmarks.requests import OK, TERMINATOR, BrokenReply

LOOK_EVERY = 0.25


@dataclass(slots=True)
class Stream:
    """One connection and the reply that it reads; `packets` has the time and the size of each packet."""

    number: int
    socket: socket.socket
    keeps: bool
    began: float = 0.0
    answered: float = 0.0
    size: int = 0
    tail: bytes = b""
    kept: bytearray = field(default_factory=bytearray)
    packets: list[tuple[int, float]] = field(default_factory=list)


@dataclass(slots=True)
class Crowd:
    """Streams whose first requests are sent at given times.

    `finished` is called with the stream of every complete reply and the time, and returns the stream's
    next request or None. The first `keep` streams keep their bytes. No reply ends in its first `quiet`
    seconds: until then a stream is checked only occasionally. Times are time.monotonic().
    """

    address: tuple[str, int]
    finished: Callable[[Stream, float], bytes | None]
    keep: int = 0
    quiet: float = 0.0
    streams: dict[int, Stream] = field(default_factory=dict)
    _due: list[tuple[float, int, bytes]] = field(default_factory=list)
    _poll: select.epoll = field(default_factory=select.epoll)
    _buffer: bytearray = field(default_factory=lambda: bytearray(1 << 18))

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        self._poll.close()
        for stream in self.streams.values():
            stream.socket.close()

    def connect(self, count: int) -> None:
        """Opens the connections, before the clock starts."""
        for number in range(count):
            connection = socket.create_connection(self.address, timeout=30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            self.streams[connection.fileno()] = Stream(number, connection, number < self.keep)

    def run(self, first: Sequence[tuple[float, bytes]], done: Callable[[float], bool]) -> None:
        """Sends each stream's first request after its delay; reads until `done(now)`."""
        now = time.monotonic()
        pairs = zip(self.streams, first, strict=True)
        self._due = [(now + delay, fd, request) for fd, (delay, request) in pairs]
        heapify(self._due)
        with _without_gc():
            while not done(now):
                while self._due and self._due[0][0] <= now:
                    _, fd, request = heappop(self._due)
                    if request:
                        self._send(fd, request, now)
                    else:
                        self._look(fd, now)
                for fd, _ in self._poll.poll(0.01):
                    self._read(fd)
                now = time.monotonic()

    def _send(self, fd: int, request: bytes, now: float) -> None:
        stream = self.streams[fd]
        stream.began, stream.size, stream.tail = now, 0, b""
        stream.kept.clear()
        stream.packets.clear()
        if stream.socket.send(request) != len(request):
            raise BrokenReply("the server does not read its requests")
        self._watch(fd, now)

    def _watch(self, fd: int, now: float) -> None:
        """Checks the stream later, or from now on at every packet."""
        if now + LOOK_EVERY < self.streams[fd].began + self.quiet:
            heappush(self._due, (now + LOOK_EVERY, fd, b""))
        else:
            self._poll.register(fd, select.EPOLLIN)

    def _look(self, fd: int, now: float) -> None:
        try:
            self._read(fd)
        except BlockingIOError:
            pass  # no data yet
        self._watch(fd, now)

    def _read(self, fd: int) -> None:
        stream, buffer = self.streams[fd], self._buffer
        got = stream.socket.recv_into(buffer)
        if not got:
            raise BrokenReply(f"the server hung up after {stream.size} bytes")
        if not stream.size:
            stream.answered = time.monotonic()
            if not buffer.startswith(OK):
                raise BrokenReply(f"not 200: {bytes(buffer[:got])!r}")
        stream.size += got
        if stream.keeps:
            stream.kept += memoryview(buffer)[:got]
            stream.packets.append((stream.size, time.monotonic()))
        if got >= len(TERMINATOR):
            stream.tail = bytes(buffer[got - len(TERMINATOR) : got])
        else:
            stream.tail = (stream.tail + buffer[:got])[-len(TERMINATOR) :]
        if stream.tail == TERMINATOR:
            now = time.monotonic()
            if now < stream.began + self.quiet:
                raise BrokenReply(f"a reply of {stream.size} bytes ended after {now - stream.began:.3f} s")
            self._poll.unregister(fd)
            request = self.finished(stream, now)
            if request is not None:
                self._send(fd, request, now)


@contextmanager
def _without_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
