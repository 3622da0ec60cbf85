"""One HTTP connection on a bare socket, so that the client costs next to nothing."""

import re
import socket
import time
from dataclasses import dataclass

from benchmarks.requests import TERMINATOR, BrokenReply

FIRST_ID = re.compile(rb'"id":"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply, and the seconds until its parts were there."""

    raw: bytes
    headers: float
    first_event: float
    whole: float


class Client:
    """Sends a request, reads its reply to the end, again and again on one connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def begin(self, request: bytes) -> str:
        """Send a request, and return the run's id as soon as its first event is there."""
        self._socket.sendall(request)
        got = bytearray()
        while (first := FIRST_ID.search(got)) is None:
            part = self._socket.recv(1 << 18)
            if not part:
                raise BrokenReply(f"the server hung up after {bytes(got)!r}")
            got += part
        return first[1].decode()

    def fetch(self, request: bytes) -> Reply:
        """Event streams come in chunks; other answers have a length."""
        began = time.perf_counter()
        self._socket.sendall(request)
        got = bytearray()
        headers = first_event = 0.0
        while not _whole(got):
            part = self._socket.recv(1 << 18)
            if not part:
                raise BrokenReply(f"the server hung up after {bytes(got[-200:])!r}")
            got += part
            now = time.perf_counter() - began
            headers = headers or now
            if not first_event and b"data: " in got:
                first_event = now
        return Reply(bytes(got), headers, first_event, time.perf_counter() - began)


def _whole(got: bytearray) -> bool:
    if got.endswith(TERMINATOR):
        return True
    end = got.find(b"\r\n\r\n")
    if end < 0:
        return False
    for line in bytes(got[:end]).lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(got) >= end + 4 + int(line[15:])
    return False
