"""Parses the first messages of TLS, which are not encrypted: the ClientHello with the host's name, and
whether the ServerHello requests another ClientHello (RFC 8446 sections 4.1 and 5.1, RFC 6066 section 3).

Strict: what two parsers could read differently is refused. Everything is bounded and parsed once as it
arrives, however it is split into records and segments.
"""

from typing import Final

MAX_HELLO: Final = 32 << 10  # bytes, with record headers; a ClientHello with post-quantum keys has some 2,000
_MAX_RECORD: Final = 1 << 14
_MAX_RECORDS: Final = 64
_CHANGE_CIPHER_SPEC: Final = 20
_ALERT: Final = 21
_HANDSHAKE: Final = 22
_APPLICATION_DATA: Final = 23
_CLIENT_HELLO: Final = 1
_SERVER_HELLO: Final = 2
_SERVER_NAME: Final = 0  # extension type
_HOST_NAME: Final = 0  # name type
# The random of a ServerHello that is a HelloRetryRequest: SHA-256 of "HelloRetryRequest".
_RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
UNRECOGNIZED_NAME: Final = b"\x15\x03\x03\x00\x02\x02\x70"  # a fatal alert


class NotTlsError(Exception):
    """The bytes are not the beginning of a valid TLS connection."""


class _Greeting:
    """Splits a stream into records and joins the first handshake message."""

    _skipped: tuple[int, ...] = ()  # record types that may precede the handshake

    def __init__(self) -> None:
        self.done = False
        self.taken = bytearray()  # the records so far, unchanged
        self.message = bytearray()  # their handshake content
        self._pending = bytearray()
        self._count = 0
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Parses records until the message is complete. Raises NotTlsError."""
        self._pending += data
        while self._pending and not self.done and self._take():
            self._look()

    def rest(self) -> bytes:
        """Returns the bytes after the parsed records."""
        return bytes(self._pending)

    def take(self) -> bytes:
        """Returns the records that were parsed since the last call."""
        taken, self.taken = bytes(self.taken), bytearray()
        return taken

    def _look(self) -> None:
        """Checks whether the message is complete, and evaluates it."""
        raise NotImplementedError

    def _take(self) -> bool:
        """Parses one record; False if it is incomplete."""
        pending = self._pending
        kind = pending[0]
        if kind != _HANDSHAKE and (kind not in self._skipped or self.message):
            raise NotTlsError("not a handshake record")
        if len(pending) < 5:
            return False
        size = int.from_bytes(pending[3:5], "big")
        if pending[1] != 3 or not 1 <= pending[2] <= 3:
            raise NotTlsError("a record of an unknown version")
        if not 0 < size <= _MAX_RECORD:
            raise NotTlsError("an empty or too large record")
        self._count += 1 if len(pending) >= 5 + size else 0
        if self._size + 5 + size > MAX_HELLO or self._count > _MAX_RECORDS:
            raise NotTlsError("too long")
        if len(pending) < 5 + size:
            return False
        self._size += 5 + size
        self.taken += pending[: 5 + size]
        if kind == _HANDSHAKE:
            self.message += pending[5 : 5 + size]
        del pending[: 5 + size]
        return True


class ClientGreeting(_Greeting):
    """Parses a ClientHello. When `done`, `name` is the host's name, or None if there is none."""

    name: str | None = None

    def _look(self) -> None:
        message = self.message
        if message and message[0] != _CLIENT_HELLO:
            raise NotTlsError("not a ClientHello")
        if len(message) < 4:
            return
        end = 4 + int.from_bytes(message[1:4], "big")
        if end > MAX_HELLO or len(message) > end:
            raise NotTlsError("longer than a ClientHello")
        if len(message) == end:
            self.name = _server_name(bytes(message[4:]))
            self.done = True


class SecondClientGreeting(ClientGreeting):
    """Parses the ClientHello after a HelloRetryRequest; records that the client sent meanwhile may precede
    it."""

    _skipped = (_CHANGE_CIPHER_SPEC, _APPLICATION_DATA)


class ServerGreeting(_Greeting):
    """Parses the beginning of a ServerHello. When `done`, `retries` says whether it is a
    HelloRetryRequest."""

    _skipped = (_ALERT,)  # some servers send a warning first
    retries = False

    def _look(self) -> None:
        message = self.message
        if message and message[0] != _SERVER_HELLO:
            raise NotTlsError("not a ServerHello")
        if len(message) >= 4 + 2 + 32:
            self.retries = message[6:38] == _RETRY
            self.done = True


class _Reader:
    """Reads vectors, each preceded by its length."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, size: int) -> bytes:
        taken, self._data = self._data[:size], self._data[size:]
        if len(taken) < size:
            raise NotTlsError("a length beyond the end")
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))

    def __bool__(self) -> bool:
        return bool(self._data)


def _server_name(body: bytes) -> str | None:
    reader = _Reader(body)
    reader.take(2 + 32)  # version and random
    reader.vector(1)  # session
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression methods
    extensions = _Reader(reader.vector(2) if reader else b"")
    if reader:
        raise NotTlsError("bytes after the extensions")
    found: dict[int, bytes] = {}
    while extensions:
        kind = extensions.number(2)
        if kind in found:
            raise NotTlsError("a duplicate extension")
        found[kind] = extensions.vector(2)
    if _SERVER_NAME not in found:
        return None
    outer = _Reader(found[_SERVER_NAME])
    names = _Reader(outer.vector(2))
    kind, name = names.number(1), names.vector(2)
    if kind != _HOST_NAME or names or outer:
        raise NotTlsError("not one host name")
    try:
        return name.decode("ascii")
    except UnicodeDecodeError:
        raise NotTlsError("a name that is not ASCII") from None
