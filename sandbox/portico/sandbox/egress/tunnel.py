"""Carries bytes of a CONNECT tunnel between code inside and a host; checks the server name of TLS first."""

import asyncio
from collections.abc import Awaitable
from typing import Final, Protocol

from portico.sandbox.egress import tls_hello
from portico.sandbox.egress.dialing import Streams
from portico.sandbox.egress.host_names import address_of, written
from portico.sandbox.egress.http_requests import Target
from portico.sandbox.egress.idle_timeout import IdleTimeout
from portico.sandbox.egress.refusal import RequestRefused

GREETING_SECONDS: Final = 15.0
_CHUNK: Final = 64 << 10


class SandboxSide(Protocol):
    """The connection that code inside has made to the proxy."""

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, so that nothing can be read or written."""

    async def read(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    def end_write(self) -> None: ...


async def open_tls(
    inner: SandboxSide, early: bytes, outer: Streams, target: Target, idle: IdleTimeout
) -> bytes:
    """Forwards the client's ClientHello if it names the target's host; returns the bytes that followed it.

    A server may request a second ClientHello, and would use the name in that one. So no further bytes of the
    client pass until the server has answered. Raises RequestRefused; NotTlsError if the server violates the
    protocol.
    """
    reader, writer = outer
    rest = await _greet(tls_hello.ClientGreeting(), inner, early, writer, target)
    answer = tls_hello.ServerGreeting()
    async with asyncio.timeout(GREETING_SECONDS):
        while not answer.done:
            data = await reader.read(_CHUNK)
            if not data:
                return rest
            answer.feed(data)
            await inner.write(data)
    idle.reset()
    if answer.retries:
        rest = await _greet(tls_hello.SecondClientGreeting(), inner, rest, writer, target)
    return rest


async def _greet(
    greeting: tls_hello.ClientGreeting,
    inner: SandboxSide,
    early: bytes,
    writer: asyncio.StreamWriter,
    target: Target,
) -> bytes:
    try:
        greeting.feed(early)
        async with asyncio.timeout(GREETING_SECONDS):
            while not greeting.done:
                data = await inner.read()
                if not data:
                    raise tls_hello.NotTlsError("incomplete")
                greeting.feed(data)
    except TimeoutError:
        raise RequestRefused(408, "no complete ClientHello was received in time") from None
    except tls_hello.NotTlsError as error:
        raise RequestRefused(
            403,
            f"this tunnel is for TLS, and its first bytes are invalid: {error}",
            f"Other protocols need tcp://{written(target.host, target.port)} in the sandbox's allow_hosts.",
        ) from None
    # RFC 6066: an address is never sent as a server name.
    name = target.host if greeting.name is None and address_of(target.host) else greeting.name
    if name is None or name.lower() != target.host:
        await inner.write(tls_hello.UNRECOGNIZED_NAME)
        raise CertificateNameMismatch
    writer.write(greeting.take())
    return greeting.rest()


class CertificateNameMismatch(Exception):
    """The ClientHello names another host, or none; the client has received an alert."""


async def relay(inner: SandboxSide, outer: Streams, idle: IdleTimeout) -> None:
    """Carries bytes in both directions until the host has closed its side or code inside has left."""
    reader, writer = outer

    async def outwards() -> None:
        while data := await inner.read():
            writer.write(data)
            await writer.drain()
            idle.reset()
        if writer.can_write_eof():
            writer.write_eof()
        idle.shorten()

    async def inwards() -> None:
        while not inner.closed and (data := await reader.read(_CHUNK)):
            await inner.write(data)
            idle.reset()
        inner.end_write()

    await race(outwards(), inwards(), inner)


async def race(outwards: Awaitable[None], inwards: Awaitable[None], inner: SandboxSide) -> None:
    """Returns when the host has closed its side, or code inside has left. Raises the errors of either
    direction; but a host that accepts no more data may still answer."""
    sending, receiving = asyncio.ensure_future(outwards), asyncio.ensure_future(inwards)
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        if not receiving.done():
            if inner.closed:
                return
            error = sending.exception()
            if error is not None and not isinstance(error, OSError):
                raise error
        await receiving
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
