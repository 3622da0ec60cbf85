"""One HTTP connection on a plain socket, so that the client uses hardly any CPU time."""

import re
import socket
import time
from dataclasses import dataclass

from benchmarks.requests import TERMINATOR, BrokenReply

FIRST_ID = re.compile(rb'"id":"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply, and the seconds until each of its parts arrived."""

    raw: bytes
    headers: float
    first_event: float
    whole: float


class Client:
    """Sends requests one after the other on one connection, and reads each reply to its end."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def begin(self, request: bytes) -> str:
        """Sends a request, and returns the run's id when its first event arrives."""
        self._socket.sendall(request)
        got = bytearray()
        while (first := FIRST_ID.search(got)) is None:
            part = self._socket.recv(1 << 18)
            if not part:
                raise BrokenReply(f"the server hung up after {bytes(got)!r}")
            got += part
        return first[1].decode()

    def fetch(self, request: bytes) -> Reply:
        """Sends a request and reads the reply. Event streams are chunked; other replies have a length."""
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
