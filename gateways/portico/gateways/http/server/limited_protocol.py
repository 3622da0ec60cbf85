"""HTTP/1.1 connections with limits on the size and duration of requests.

uvicorn bounds neither the size of a request's head nor the time for head and body, so slow callers could hold
every connection, and one large head could fill the memory. It also accepts heads that two parsers could read
differently.
"""

import asyncio
import re
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_BYTES = 64 * 1024
HEADERS = 200
HEAD_SECONDS = 15.0  # from the connection, or from the head's first bytes, to the end of the head
BODY_SECONDS = 20.0  # allowed for a body of any size
BODY_RATE = 512  # bytes of body that extend the time by one second
# Fields that may occur once: with two, a proxy might use the first and a gateway the last.
_ONCE = frozenset(
    (
        b"host",
        b"authorization",
        b"content-type",
        b"origin",
        b"idempotency-key",
        b"last-event-id",
        b"a2a-version",
    )
)
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")  # absolute form of the request target
# of a body whose request is answered already; read on, so that the client sees the answer
UNREAD_BYTES = 32 * 1024 * 1024


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits.

    It answers 431 for a head that is too large, 408 for a head or body that is too slow, and 400 for a head
    without Host (RFC 9112, 3.2) or with two of a field that may occur once. Time in which the application
    does not read does not count.
    """

    _in_head = True
    _in_body = False
    _refused = False
    _head_size = 0
    _unread = 0
    _body_until = 0.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm(HEAD_SECONDS, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._in_head:
            self._head_size += len(data)
        super().data_received(data)
        if self._refused or self.transport.is_closing():
            return
        if self._in_head:
            if self._head_size > HEAD_BYTES:
                self._refuse(431, f"the request's head is larger than {HEAD_BYTES} bytes")
            elif self._timer is None:
                self._arm(HEAD_SECONDS, self._head_late)
        elif self._in_body and self._timer is None:
            self._body_until = self.loop.time() + BODY_SECONDS
            self._arm(BODY_SECONDS, self._body_late)

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_size = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._disarm()
        size = len(self.url) + sum([len(name) + len(value) for name, value in self.headers])
        if size > HEAD_BYTES or len(self.headers) > HEADERS:
            words = f"the request's head is larger than {HEADERS} headers or {HEAD_BYTES} bytes"
            self._refuse(431, words)
            return
        if problem := _ambiguity([name for name, _ in self.headers], self.parser.get_http_version()):
            self._refuse(400, problem)
            return
        if (absolute := _ABSOLUTE.match(self.url)) is not None:
            self._take_absolute(absolute)
        self._in_body = not self.parser.should_upgrade()
        self._unread = 0
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        if self.scope["method"] != "GET":
            self._refuse(400, "a WebSocket handshake must use GET")
        if not self._refused:
            super().handle_websocket_upgrade()

    def _take_absolute(self, target: "re.Match[bytes]") -> None:
        """Replaces the Host header by the host of an absolute target, which takes precedence (RFC 9112,
        3.2.2).
        """
        rest = self.url[target.end() :]
        self.url = rest if rest.startswith(b"/") else b"/" + rest
        self.headers[:] = [(name, value) for name, value in self.headers if name != b"host"]
        self.headers.append((b"host", target[1]))

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self._body_until += len(body) / BODY_RATE
        if self.cycle.response_complete:
            self._unread += len(body)
            if self._unread > UNREAD_BYTES:
                self._refused = True
                self.transport.close()
                return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._disarm()
        if not self._refused:
            super().on_message_complete()

    def _arm(self, seconds: float, late: Callable[[], None]) -> None:
        self._timer = self.loop.call_later(seconds, late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_late(self) -> None:
        if self._head_size:
            self._refuse(408, f"the request's head took longer than {HEAD_SECONDS:g} s")
        else:
            self.transport.close()

    def _body_late(self) -> None:
        now = self.loop.time()
        if self.flow.read_paused:
            # The application is slow to read, not the caller to send.
            self._body_until = now + BODY_SECONDS
        if now < self._body_until:
            self._arm(self._body_until - now, self._body_late)
        else:
            self._refuse(408, f"the body arrives more slowly than {BODY_RATE} bytes per second")

    def _refuse(self, status: int, words: str) -> None:
        self._refused = True
        self._disarm()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            text = words.encode()
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
                + b"content-length: %d\r\n\r\n" % len(text)
                + text
            )
        self.transport.close()


def _ambiguity(names: list[bytes], version: str) -> str:
    """Returns why a head with these field names is refused; empty if it is accepted."""
    if b"host" not in names and version != "1.0":
        return "the request has no Host header"
    if len(set(names)) != len(names):
        for name in _ONCE:
            if names.count(name) > 1:
                return f"the request has more than one {name.decode()} header"
    return ""
