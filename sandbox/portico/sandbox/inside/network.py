"""Connections across the wall: in to a port that code inside listens on, and out through the owner's proxy.

The sandbox's network has a loopback interface and nothing else. What goes in or out goes through the
agent's own stream, so the owner sees every connection and no address of the host is ever reachable.
"""

import socket
from collections.abc import Callable
from typing import Any, Final

from . import wire
from .calls import Call, Failure
from .loop import READ, WRITE, Loop

PROXY_PORT: Final = 3128
_LAST_WORDS: Final = 2.0  # seconds a peer has to take what was sent before the end
_MAX_WAITING: Final = 4 << 20  # bytes for a peer that does not read


def operations(
    loop: Loop, open_call: Callable[[], Call]
) -> dict[str, Callable[[Call, dict[str, Any]], None]]:
    def connect(call: Call, request: dict[str, Any]) -> None:
        """Connects to a port inside; fails with `refused` when nobody listens."""
        peer = socket.socket()
        peer.settimeout(2)
        try:
            peer.connect(("127.0.0.1", int(request["port"])))
        except OSError as error:
            peer.close()
            raise Failure("refused", f"port {request['port']}: {error.strerror or error}") from None
        call.event({"type": "connected"})
        _Relay(loop, call, peer)

    def proxy(call: Call, _request: dict[str, Any]) -> None:
        """Listens where the environment says the proxy is; each connection becomes a call of the owner's."""
        server = socket.create_server(("127.0.0.1", PROXY_PORT), backlog=64)
        server.setblocking(False)

        def accept(_events: int) -> None:
            try:
                peer, _ = server.accept()
            except OSError:
                return  # it went away, or there are no descriptors left
            outgoing = open_call()
            outgoing.announce({"op": "connect"})
            _Relay(loop, outgoing, peer)

        loop.watch(server.fileno(), READ, accept)
        call.end()

    return {"connect": connect, "proxy": proxy}


class _Relay:
    """Bytes between a socket and a call, both ways, until both have said that they are done."""

    def __init__(self, loop: Loop, call: Call, peer: socket.socket) -> None:
        self._loop, self._call, self._peer = loop, call, peer
        self._waiting = bytearray()
        self._reading, self._writing = True, True
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
                sent = self._peer.send(self._waiting[: wire.CHUNK])
                del self._waiting[:sent]
                self._call.taken(sent)
                self._finish_writing()
            if events & ~WRITE and self._reading:
                data = self._peer.recv(wire.CHUNK)
                self._call.write(data)
                if not data:
                    self._reading = False
                    self._call.event({"type": "eof"})
        except BlockingIOError:
            return
        except OSError as error:
            self._call.fail(Failure("refused", f"the connection broke off: {error.strerror or error}"))
            self._close()
            return
        self._settle()

    def _take(self, data: bytes) -> None:
        if not data:
            self._writing = False
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
        """The owner is done; what it has sent still goes to a peer that takes it."""
        self._reading = self._writing = False
        self._loop.later(_LAST_WORDS, self._close)
        self._settle()

    def _close(self) -> None:
        if self._peer.fileno() >= 0:
            self._loop.forget(self._peer.fileno())
            self._peer.close()
        self._call.end()
