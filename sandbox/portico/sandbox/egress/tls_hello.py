"""The first messages of TLS, in the clear: a client's greeting with the name of its host, and whether the
server asks for a second greeting (RFC 8446 sections 4.1 and 5.1, RFC 6066 section 3).

Strict: what two parsers could read in two ways is refused. Everything is bounded and parsed once as it
comes, however it is cut into records and segments.
"""

from typing import Final

MAX_HELLO: Final = 32 << 10  # bytes, with headers of records; with post-quantum keys it has some 2,000
_MAX_RECORD: Final = 1 << 14
_MAX_RECORDS: Final = 64
_CHANGE_CIPHER_SPEC: Final = 20
_ALERT: Final = 21
_HANDSHAKE: Final = 22
_APPLICATION_DATA: Final = 23
_CLIENT_HELLO: Final = 1
_SERVER_HELLO: Final = 2
_SERVER_NAME: Final = 0  # the extension
_HOST_NAME: Final = 0  # the kind of name
# The random of a ServerHello that asks for another greeting: SHA-256 of "HelloRetryRequest".
_RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
UNRECOGNIZED_NAME: Final = b"\x15\x03\x03\x00\x02\x02\x70"  # a fatal alert


class NotTls(Exception):
    """These bytes are not the beginning of a TLS connection as clients write it."""


class _Greeting:
    """Cuts a stream into records, and joins a handshake message from them."""

    _skipped: tuple[int, ...] = ()  # kinds of records that may come before the first of the handshake

    def __init__(self) -> None:
        self.done = False
        self.taken = bytearray()  # the records so far, as they came
        self.message = bytearray()  # what they say of the handshake
        self._pending = bytearray()
        self._count = 0
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Takes records until the message is there. Raises NotTls."""
        self._pending += data
        while self._pending and not self.done and self._take():
            self._look()

    def rest(self) -> bytes:
        """Bytes after the records that have been taken."""
        return bytes(self._pending)

    def take(self) -> bytes:
        """The records that were taken since this was last called."""
        taken, self.taken = bytes(self.taken), bytearray()
        return taken

    def _look(self) -> None:
        """Sees whether the message is there."""
        raise NotImplementedError

    def _take(self) -> bool:
        """Takes one record, if it is there."""
        pending = self._pending
        kind = pending[0]
        if kind != _HANDSHAKE and (kind not in self._skipped or self.message):
            raise NotTls("not a record of the handshake")
        if len(pending) < 5:
            return False
        size = int.from_bytes(pending[3:5], "big")
        if pending[1] != 3 or not 1 <= pending[2] <= 3:
            raise NotTls("a record of an unknown version")
        if not 0 < size <= _MAX_RECORD:
            raise NotTls("an empty record, or one that is too large")
        self._count += 1 if len(pending) >= 5 + size else 0
        if self._size + 5 + size > MAX_HELLO or self._count > _MAX_RECORDS:
            raise NotTls("too long")
        if len(pending) < 5 + size:
            return False
        self._size += 5 + size
        self.taken += pending[: 5 + size]
        if kind == _HANDSHAKE:
            self.message += pending[5 : 5 + size]
        del pending[: 5 + size]
        return True


class ClientGreeting(_Greeting):
    """A ClientHello; when it is done, `name` is the host's, or None where there is none."""

    name: str | None = None

    def _look(self) -> None:
        message = self.message
        if message and message[0] != _CLIENT_HELLO:
            raise NotTls("not a client's greeting")
        if len(message) < 4:
            return
        end = 4 + int.from_bytes(message[1:4], "big")
        if end > MAX_HELLO or len(message) > end:
            raise NotTls("more than a greeting")
        if len(message) == end:
            self.name = _server_name(bytes(message[4:]))
            self.done = True


class SecondClientGreeting(ClientGreeting):
    """The greeting after a server's retry request; records that the client sent meanwhile come first."""

    _skipped = (_CHANGE_CIPHER_SPEC, _APPLICATION_DATA)


class ServerGreeting(_Greeting):
    """As much of a ServerHello as tells whether it `retries`: asks for another ClientHello."""

    _skipped = (_ALERT,)  # some servers warn first
    retries = False

    def _look(self) -> None:
        message = self.message
        if message and message[0] != _SERVER_HELLO:
            raise NotTls("not a server's greeting")
        if len(message) >= 4 + 2 + 32:
            self.retries = message[6:38] == _RETRY
            self.done = True


class _Reader:
    """Reads vectors, each with its length before it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, size: int) -> bytes:
        taken, self._data = self._data[:size], self._data[size:]
        if len(taken) < size:
            raise NotTls("a length beyond the end")
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
        raise NotTls("more behind the extensions")
    found: dict[int, bytes] = {}
    while extensions:
        kind = extensions.number(2)
        if kind in found:
            raise NotTls("an extension twice")
        found[kind] = extensions.vector(2)
    if _SERVER_NAME not in found:
        return None
    outer = _Reader(found[_SERVER_NAME])
    names = _Reader(outer.vector(2))
    kind, name = names.number(1), names.vector(2)
    if kind != _HOST_NAME or names or outer:
        raise NotTls("not one host name")
    try:
        return name.decode("ascii")
    except UnicodeDecodeError:
        raise NotTls("a name that is not ASCII") from None
