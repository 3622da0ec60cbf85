"""The proxy through which a sandbox may reach the hosts it is allowed: HTTP by absolute URL, HTTPS by
CONNECT.

It runs on the owner's side. The sandbox's own network reaches nothing; it asks here, by name. A name is
resolved once, every address it has must be a public one, and the connection goes to just the address that
was looked at, so a name that resolves differently a moment later gains nothing. With CONNECT the name in
the TLS greeting must be the same.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from portico.sandbox.channel import Call
from portico.sandbox.connection import Connection
from portico.sandbox.inside.network import PROXY_PORT
from portico.sandbox.spec import NetworkPolicy

_MAX_HEAD: Final = 64 << 10  # bytes
_HEAD_SECONDS: Final = 15.0
_CONNECT_SECONDS: Final = 15.0
_URL: Final = f"http://127.0.0.1:{PROXY_PORT}"
ENVIRONMENT: Final = dict.fromkeys(
    ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"), _URL
) | {"no_proxy": "localhost,127.0.0.1", "NO_PROXY": "localhost,127.0.0.1"}

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Refused(Exception):
    """A request that is not let through; the message goes to the code inside."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def is_public(address: str) -> bool:
    """False for loopback, private, link-local, metadata, multicast and every address that leads to one of
    them.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        embedded = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if embedded is None and parsed in _NAT64:
            embedded = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class Egress:
    """Serves the connections that one sandbox makes to its proxy."""

    def __init__(self, policy: NetworkPolicy, resolve: Resolve = resolve) -> None:
        self._policy = policy
        self._resolve = resolve

    async def serve(self, call: Call) -> None:
        inner = Connection(call)
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                head, rest = await _read_head(inner)
            method, target, version = _request_line(head)
            if method == "CONNECT":
                host, port = _split_host(target, 443)
                reader, writer = await self._open(host, port)
                await inner.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                if not rest:
                    rest = await inner.read()
                name = server_name(rest)
                if name is not None and name.lower() != host:
                    writer.close()
                    return
            else:
                url = urlsplit(target)
                if url.scheme != "http" or not url.hostname:
                    raise Refused("400 Bad Request: a proxy takes absolute http URLs and CONNECT")
                reader, writer = await self._open(url.hostname.lower(), url.port or 80)
                rest = _forwarded(head, method, url.netloc, url.path or "/", url.query, version) + rest
        except (Refused, TimeoutError, ValueError) as error:
            status, _, reason = (str(error) or "408 Request Timeout").partition(": ")
            text = f"{reason or status}\n"
            await inner.write(
                f"HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {len(text)}\r\n"
                f"connection: close\r\n\r\n{text}".encode()
            )
            inner.end_write()
            return
        try:
            writer.write(rest)
            await _relay(inner, reader, writer)
        finally:
            writer.close()

    def allows(self, host: str, port: int) -> bool:
        for rule in self._policy.allow_hosts:
            name, _, wanted = rule.lower().partition(":")
            if (int(wanted) != port) if wanted else port not in (80, 443):
                continue
            if host == name or (name.startswith("*.") and host.endswith(name[1:]) and host != name[2:]):
                return True
        return False

    async def _open(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host = host.rstrip(".")
        if not self.allows(host, port):
            raise Refused(f"403 Forbidden: {host}:{port} is not on the sandbox's list")
        try:
            addresses = await self._resolve(host, port)
        except OSError:
            raise Refused(f"502 Bad Gateway: {host} has no address") from None
        if not addresses or not all(is_public(address) for address in addresses):
            raise Refused(f"403 Forbidden: {host} is not at a public address")
        for address in addresses:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    return await asyncio.open_connection(address, port)
            except (OSError, TimeoutError):
                continue
        raise Refused(f"502 Bad Gateway: {host} does not answer")


async def _read_head(inner: Connection) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = await inner.read()
        data += piece
        if not piece or len(data) > _MAX_HEAD:
            raise Refused("400 Bad Request: no request")
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _request_line(head: bytes) -> tuple[str, str, str]:
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3:
        raise Refused("400 Bad Request: no request line")
    return words[0], words[1], words[2]


def _split_host(target: str, default: int) -> tuple[str, int]:
    url = urlsplit("//" + target)
    if not url.hostname:
        raise Refused("400 Bad Request: no host")
    return url.hostname.lower(), url.port or default


def _forwarded(head: bytes, method: str, netloc: str, path: str, query: str, version: str) -> bytes:
    """The request as the host will see it: one per connection, and its Host is the one that was asked for."""
    dropped = (b"host:", b"connection:", b"proxy-", b"keep-alive:", b"upgrade:")
    kept = [line for line in head.split(b"\r\n")[1:] if not line.lower().startswith(dropped)]
    first = f"{method} {path}{'?' + query if query else ''} {version}".encode("latin-1")
    host = b"Host: " + netloc.rpartition("@")[2].encode("latin-1")
    return b"\r\n".join([first, host, *kept, b"Connection: close", b"", b""])


def server_name(hello: bytes) -> str | None:
    """The host name in the first record of a TLS connection; None when there is none to be read."""
    try:
        if hello[0] != 22 or hello[5] != 1:
            return None
        place = 5 + 4 + 2 + 32
        place += 1 + hello[place]
        place += 2 + int.from_bytes(hello[place : place + 2], "big")
        place += 1 + hello[place]
        end = place + 2 + int.from_bytes(hello[place : place + 2], "big")
        place += 2
        while place + 4 <= min(end, len(hello)):
            kind, size = (
                int.from_bytes(hello[place : place + 2], "big"),
                int.from_bytes(hello[place + 2 : place + 4], "big"),
            )
            if kind == 0:
                return hello[place + 9 : place + 4 + size].decode("ascii")
            place += 4 + size
    except (IndexError, UnicodeDecodeError):
        pass  # not TLS; what it is, is between the two ends
    return None


async def _relay(inner: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def outwards() -> None:
        async for data in inner:
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def inwards() -> None:
        while data := await reader.read(64 << 10):
            await inner.write(data)
        inner.end_write()

    sending = asyncio.ensure_future(outwards())
    try:
        await inwards()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
