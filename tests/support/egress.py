"""A sandbox's proxy on a loopback port, hosts behind it, and clients that send exact bytes."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from support.certificates import Authority

from portico.sandbox.egress.proxy import Egress
from portico.sandbox.egress.resolver import Lookup
from portico.sandbox.spec import NetworkBounds, NetworkPolicy

LOOPBACK = NetworkBounds(open=("127.0.0.0/8",))
_CHUNK = 64 << 10


class _Inner:
    """The proxy's view of a connection from inside the sandbox, over a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @property
    def closed(self) -> bool:
        return self._writer.is_closing()

    async def read(self) -> bytes:
        return await self._reader.read(_CHUNK)

    async def write(self, data: bytes) -> None:
        if not self.closed:
            self._writer.write(data)
            with suppress(ConnectionError):  # like a connection from a sandbox, which reports only `closed`
                await self._writer.drain()

    def end_write(self) -> None:
        if self._writer.can_write_eof() and not self.closed:
            self._writer.write_eof()


class Names:
    """A resolver's answers, and the names that were looked up. Unknown names are on loopback."""

    def __init__(self, **known: Iterable[str]) -> None:
        self.known = {name.replace("_", "."): list(addresses) for name, addresses in known.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        return self.known.get(host, ["127.0.0.1"])


@asynccontextmanager
async def serving(
    *hosts: str, bounds: NetworkBounds = LOOPBACK, lookup: Lookup | None = None
) -> AsyncIterator[int]:
    """Yields the port of a proxy for the hosts."""
    policy = NetworkPolicy(hosts, bounds)
    policy.check()
    egress = Egress(policy, lookup or Names())
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await egress.carry(_Inner(reader, writer))
        except (asyncio.CancelledError, ConnectionError):
            pass  # the test has ended, or the client has disconnected
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Origin:
    """A host that records the bytes that it receives."""

    port: int
    got: list[bytes] = field(default_factory=list)  # received bytes by connection

    @property
    def text(self) -> str:
        return b"".join(self.got).decode("latin-1")


@asynccontextmanager
async def origin(
    *answer: bytes,
    after: bytes = b"\r\n\r\n",
    address: str = "127.0.0.1",
    pause: float = 0.0,
    deaf: bool = False,
) -> AsyncIterator[Origin]:
    """Starts a host that answers each connection once the bytes have arrived, with a pause before each part.

    It records all received bytes. A deaf host does not notice that the other side has ended.
    """
    host = Origin(0)
    parts = answer or (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",)

    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        place = len(host.got)
        host.got.append(b"")
        answered = False
        try:
            while data := await reader.read(_CHUNK):
                host.got[place] += data
                if not answered and after in host.got[place]:
                    answered = True
                    for part in parts:
                        await asyncio.sleep(pause)
                        writer.write(part)
            if deaf:
                await asyncio.sleep(60)
        except (asyncio.CancelledError, ConnectionError):
            pass  # the test or the connection has ended
        finally:
            writer.close()

    server = await asyncio.start_server(serve, address, 0)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        server.close()
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)


@dataclass
class TlsOrigin:
    """A host that speaks TLS, and the server names that clients sent."""

    port: int
    authority: Path
    greeted: list[str | None] = field(default_factory=list)


@asynccontextmanager
async def tls_origin(folder: Path, *names: str, curve: str = "") -> AsyncIterator[TlsOrigin]:
    """Starts a TLS echo server. With a curve for which clients send no key share, it requests a second
    ClientHello.
    """
    authority = Authority(folder)
    certificate, key = authority.issue("origin", *names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if curve:
        context.set_ecdh_curve(curve)
    host = TlsOrigin(0, authority.file)
    context.sni_callback = lambda _socket, name, _context: host.greeted.append(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_CHUNK):
                writer.write(data)
        except (ConnectionError, ssl.SSLError):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    host.port = server.sockets[0].getsockname()[1]
    async with server:
        yield host


class Client:
    """A connection to a proxy. Its methods block: call them in a thread."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connect(self, host: str, port: int) -> bytes:
        """Requests a tunnel; returns the head of the answer."""
        self.socket.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        return self.head()

    def head(self) -> bytes:
        data = b""
        while not data.endswith(b"\r\n\r\n") and (piece := self.socket.recv(1)):
            data += piece
        return data

    def rest(self) -> bytes:
        """Reads until the other side ends."""
        data = b""
        try:
            while piece := self.socket.recv(_CHUNK):
                data += piece
        except ConnectionError:
            pass
        return data

    def close(self) -> None:
        self.socket.close()


def exchange(port: int, request: bytes) -> bytes:
    """Returns the proxy's complete answer to these bytes."""
    client = Client(port)
    try:
        client.socket.sendall(request)
        return client.rest()
    finally:
        client.close()


def greeting(name: str | None, minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> bytes:
    """Returns the ClientHello of a real client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = minimum
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def recorded(hello: bytes, size: int) -> bytes:
    """Returns the same ClientHello in records of this many bytes."""
    message = hello[5:]
    parts = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(hello[:3] + len(part).to_bytes(2, "big") + part for part in parts)
