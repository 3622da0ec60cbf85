"""Many HTTP streams read at once by one thread: an epoll loop that looks only at how a reply ends.

It costs some microseconds per packet, so that two cores are left to the server.
"""

import gc
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heapify, heappop

from benchmarks.requests import OK, TERMINATOR, BrokenReply


@dataclass(slots=True)
class Stream:
    """One connection and the reply that it is reading; `packets` says when how much of it was there."""

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
    """Streams whose first requests go out at given times.

    `finished` is called with the stream of every whole reply and the time, and returns this stream's
    next request or None. The first `keep` streams keep their bytes. Times are time.monotonic().
    """

    address: tuple[str, int]
    finished: Callable[[Stream, float], bytes | None]
    keep: int = 0
    streams: dict[int, Stream] = field(default_factory=dict)
    buffer: bytearray = field(default_factory=lambda: bytearray(1 << 18))

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self.streams.values():
            stream.socket.close()

    def connect(self, count: int) -> None:
        """Open so many connections, before the clock starts."""
        for number in range(count):
            connection = socket.create_connection(self.address, timeout=30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            self.streams[connection.fileno()] = Stream(number, connection, number < self.keep)

    def run(self, first: Sequence[tuple[float, bytes]], done: Callable[[float], bool]) -> None:
        """Send each stream's first request after its delay; read until `done(now)`."""
        now = time.monotonic()
        pairs = zip(self.streams, first, strict=True)
        waiting = [(now + delay, fd, request) for fd, (delay, request) in pairs]
        heapify(waiting)
        with select.epoll(len(self.streams)) as poll, _without_gc():
            for fd in self.streams:
                poll.register(fd, select.EPOLLIN)
            while not done(now):
                while waiting and waiting[0][0] <= now:
                    _, fd, request = heappop(waiting)
                    self._send(self.streams[fd], request, now)
                for fd, _ in poll.poll(0.01):
                    self._read(self.streams[fd])
                now = time.monotonic()

    def _send(self, stream: Stream, request: bytes, now: float) -> None:
        stream.began, stream.size, stream.tail = now, 0, b""
        stream.kept.clear()
        stream.packets.clear()
        if stream.socket.send(request) != len(request):
            raise BrokenReply("the server does not read its requests")

    def _read(self, stream: Stream) -> None:
        got = stream.socket.recv_into(self.buffer)
        if not got:
            raise BrokenReply(f"the server hung up after {stream.size} bytes")
        if not stream.size:
            stream.answered = time.monotonic()
            if not self.buffer.startswith(OK):
                raise BrokenReply(f"not 200: {bytes(self.buffer[:got])!r}")
        stream.size += got
        if stream.keeps:
            stream.kept += memoryview(self.buffer)[:got]
            stream.packets.append((stream.size, time.monotonic()))
        if got >= len(TERMINATOR):
            stream.tail = bytes(self.buffer[got - len(TERMINATOR) : got])
        else:
            stream.tail = (stream.tail + self.buffer[:got])[-len(TERMINATOR) :]
        if stream.tail == TERMINATOR:
            now = time.monotonic()
            request = self.finished(stream, now)
            if request is not None:
                self._send(stream, request, now)


@contextmanager
def _without_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
