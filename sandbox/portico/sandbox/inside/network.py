"""Connections of a sandbox: to a port that code inside listens on, and from inside to the owner's proxy.

The sandbox's network namespace has only a loopback interface. All connections go through the supervisor's
channel, so the owner sees each of them, and no address of the host is reachable.
"""

import _thread
import errno
import os
import socket
from collections.abc import Callable
from typing import Any, Final

from . import wire
from .calls import Call, Failure
from .loop import READ, WRITE, Loop

PROXY_PORT: Final = 3128
_PEERS: Final = 96  # concurrent connections to the proxy; further ones wait to be accepted
_PAUSE: Final = 0.1  # seconds until the next accept, when no descriptor is left
_LAST_WORDS: Final = 2.0  # seconds for a peer to receive data that was sent before the end
_LINGER: Final = 0.5  # seconds for a refused peer to read the reason
_CONNECT_SECONDS: Final = 2.0
_CALLS: Final = 128  # concurrent calls to the owner; while it does not read, calls outlive their peers
_MAX_WAITING: Final = 4 << 20  # bytes queued for a peer that does not read
_REASON: Final = "This sandbox has no network: name the hosts it needs in allow_hosts when it is made"
_OFF: Final = (
    f"HTTP/1.1 403 {_REASON}\r\ncontent-type: text/plain\r\ncontent-length: {len(_REASON) + 1}\r\n"
    f"connection: close\r\n\r\n{_REASON}\n"
).encode()


class Network:
    """Opens connections to ports inside, and accepts connections at the proxy's port. If hosts are allowed,
    each becomes a call to the owner; otherwise the supervisor answers it with an error that says so."""

    def __init__(self, loop: Loop, open_call: Callable[[], Call]) -> None:
        self._loop = loop
        self._open_call = open_call
        self._server: socket.socket | None = None
        self._allowed = False
        self._peers = 0
        self._calls: list[Call] = []

    def operations(self) -> dict[str, Callable[[Call, dict[str, Any]], None]]:
        return {"connect": self._connect, "proxy": self._allow}

    def listen(self) -> None:
        """Listens at the proxy's address that the environment variables name."""
        server = socket.socket()
        try:
            server.bind(("127.0.0.1", PROXY_PORT))
            server.listen(64)
        except OSError:
            server.close()  # without a loopback interface no connection is possible
            return
        server.setblocking(False)
        self._server = server
        self._watch()

    def close(self) -> None:
        if self._server is not None:
            self._loop.forget(self._server.fileno())
            self._server.close()
            self._server = None

    def _connect(self, call: Call, request: dict[str, Any]) -> None:
        """Connects to a port inside; fails with `refused` if no process listens."""
        port = int(request["port"])
        peer = socket.socket()
        peer.settimeout(_CONNECT_SECONDS)

        def connected(number: int) -> None:
            if call.ended or number:
                peer.close()
                call.fail(Failure("refused", f"port {port}: {os.strerror(number)}"))
            else:
                call.event({"type": "connected"})
                _Relay(self._loop, call, peer)

        _in_thread(self._loop, lambda: peer.connect(("127.0.0.1", port)), connected)

    def _allow(self, call: Call, _request: dict[str, Any]) -> None:
        if self._server is None:
            raise Failure("os", "the sandbox has no loopback interface for its proxy")
        self._allowed = True
        call.end()

    def _watch(self) -> None:
        if self._server is not None and self._peers < _PEERS:
            self._loop.watch(self._server.fileno(), READ, self._accept)

    def _accept(self, _events: int) -> None:
        assert self._server is not None
        try:
            peer, _ = self._server.accept()
        except BlockingIOError:
            return  # it has disconnected
        except OSError:  # no descriptor is left
            self._loop.forget(self._server.fileno())
            self._loop.later(_PAUSE, self._watch)
            return
        self._peers += 1
        if self._peers >= _PEERS:
            self._loop.forget(self._server.fileno())
        self._calls = [call for call in self._calls if not call.closed]
        if self._allowed and len(self._calls) >= _CALLS:
            peer.close()
            self._left()
        elif self._allowed:
            outgoing = self._open_call()
            self._calls.append(outgoing)
            outgoing.announce({"op": "connect"})
            _Relay(self._loop, outgoing, peer, self._left)
        else:
            self._refuse(peer)

    def _left(self) -> None:
        self._peers -= 1
        self._watch()

    def _refuse(self, peer: socket.socket) -> None:
        peer.setblocking(False)

        def close() -> None:
            peer.close()
            self._left()

        def answer(_events: int) -> None:
            try:
                peer.recv(wire.CHUNK)
                peer.send(_OFF)
                peer.shutdown(socket.SHUT_WR)
            except BlockingIOError:
                return
            except OSError:
                pass  # it has disconnected
            self._loop.forget(peer.fileno())
            self._loop.later(_LINGER, close)  # an immediate close would discard the answer if it still sends

        self._loop.watch(peer.fileno(), READ, answer)


def _in_thread(loop: Loop, work: Callable[[], None], done: Callable[[int], None]) -> None:
    """Runs work in a thread, because the system call filter asks process 1 about it (see `sockets`), whose
    loop has to answer meanwhile. Calls back with 0 or the errno. Raises OSError if no thread can be
    started."""
    told, telling = os.pipe()

    def run() -> None:
        number = errno.EINVAL
        try:
            work()
            number = 0
        except OSError as error:
            number = error.errno or errno.ETIMEDOUT
        finally:
            os.write(telling, bytes([number]))
            os.close(telling)

    def ended(_events: int) -> None:
        number = os.read(told, 1)[0]
        loop.forget(told)
        os.close(told)
        done(number)

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:  # the limit of processes is reached
        os.close(told)
        os.close(telling)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
    loop.watch(told, READ, ended)


class _Relay:
    """Carries bytes between a socket and a call in both directions, until both have ended."""

    def __init__(
        self, loop: Loop, call: Call, peer: socket.socket, closed: Callable[[], None] = lambda: None
    ) -> None:
        self._loop, self._call, self._peer, self._closed = loop, call, peer, closed
        self._waiting = bytearray()
        self._reading, self._writing = True, True
        self._deaf = False
        peer.setblocking(False)
        call.on_credit = self._watch
        call.on_cancel = self._cancel
        self._watch()
        call.listen(self._take)

    def _watch(self) -> None:
        events = (READ if self._reading and self._call.credit > 0 else 0) | (WRITE if self._waiting else 0)
        if events:
            self._loop.watch(self._peer.fileno(), events, self._ready)
        elif self._peer.fileno() >= 0:
            self._loop.forget(self._peer.fileno())

    def _ready(self, events: int) -> None:
        try:
            if events & WRITE and self._waiting:
                self._send()
            if events & ~WRITE and self._reading:
                data = self._peer.recv(wire.CHUNK)
                self._call.write(data)
                if not data:
                    self._reading = False
                    self._call.event({"type": "eof"})
        except BlockingIOError:
            return
        except OSError as error:
            self._call.fail(Failure("refused", f"the connection was reset: {error.strerror or error}"))
            self._close()
            return
        self._settle()

    def _send(self) -> None:
        try:
            sent = self._peer.send(self._waiting[: wire.CHUNK])
        except BlockingIOError:
            return
        except OSError:
            # It receives no more; what it has sent before can still be read.
            self._deaf, sent = True, len(self._waiting)
        del self._waiting[:sent]
        self._call.taken(sent)
        self._finish_writing()

    def _take(self, data: bytes) -> None:
        if not data:
            self._writing = False
        elif self._deaf:
            self._call.taken(len(data))
        elif len(self._waiting) < _MAX_WAITING:
            self._waiting += data
        self._finish_writing()
        self._settle()

    def _finish_writing(self) -> None:
        if not self._writing and not self._waiting:
            try:
                self._peer.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it is gone already

    def _settle(self) -> None:
        if self._peer.fileno() < 0:
            return
        if not self._reading and not self._writing and not self._waiting:
            self._close()
        else:
            self._watch()

    def _cancel(self, _request: dict[str, Any]) -> None:
        """Handles the owner's cancel; data that the owner has sent still goes to a peer that reads."""
        self._reading = self._writing = False
        self._loop.later(_LAST_WORDS, self._close)
        self._settle()

    def _close(self) -> None:
        if self._peer.fileno() >= 0:
            self._loop.forget(self._peer.fileno())
            self._peer.close()
            self._closed()
        self._call.end()
