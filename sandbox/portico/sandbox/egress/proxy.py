"""The proxy of one sandbox: reads a request, checks it against the caller's and the operator's rules, and
forwards it to a checked address.
"""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import h11

from portico.sandbox.egress import http_requests
from portico.sandbox.egress.addresses import AddressBounds, parse_opened
from portico.sandbox.egress.dialing import Streams, dial
from portico.sandbox.egress.host_names import address_of, written
from portico.sandbox.egress.http_exchange import exchange
from portico.sandbox.egress.idle_timeout import IdleTimeout
from portico.sandbox.egress.refusal import RequestRefused
from portico.sandbox.egress.resolver import Lookup, Resolver, system_lookup
from portico.sandbox.egress.rules import HTTP, RAW, TLS, parse_all, parse_denied
from portico.sandbox.egress.tls_hello import NotTlsError
from portico.sandbox.egress.tunnel import CertificateNameMismatch, SandboxSide, open_tls, relay
from portico.sandbox.handle.call import Call
from portico.sandbox.handle.port_connection import Connection
from portico.sandbox.spec import NetworkPolicy

CONNECTIONS: Final = 64  # open at once, of one sandbox
_SHARE: Final = 4  # the connections of all sandboxes may use 1/4 of this process's descriptors
_HEAD_SECONDS: Final = 15.0
_LAST_SECONDS: Final = 10.0  # to send the last bytes to a host


class Egress:
    """Serves the connections that one sandbox makes to its proxy."""

    _everywhere = 0  # connections of all sandboxes of this process

    def __init__(self, policy: NetworkPolicy, lookup: Lookup = system_lookup) -> None:
        bounds = policy.bounds
        self._rules = parse_all(policy.allow_hosts)
        self._operator = parse_all(bounds.hosts)
        self._denied, networks = parse_denied(bounds.deny)
        self._addresses = AddressBounds(networks, map(parse_opened, bounds.open))
        self._resolver = Resolver(lookup)
        self._here = 0

    async def serve(self, call: Call) -> None:
        """Serves a connection that the sandbox has opened; a channel calls it."""
        await self.carry(Connection(call))

    async def carry(self, inner: SandboxSide) -> None:
        """Serves one connection to its end."""
        try:
            with self._place():
                await self._carry(inner)
        except RequestRefused as refused:
            await inner.write(refused.response())
            inner.end_write()
        except (OSError, TimeoutError, h11.ProtocolError, NotTlsError, CertificateNameMismatch):
            pass  # after it was allowed: one side has closed the connection or violated its protocol

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Counts a connection while it is open. Raises RequestRefused when there are too many."""
        if self._here >= CONNECTIONS:
            raise RequestRefused(503, f"this sandbox has {CONNECTIONS} connections already", "Close some.")
        if Egress._everywhere >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE:
            raise RequestRefused(503, "all sandboxes together have too many connections", "Try again later.")
        self._here += 1
        Egress._everywhere += 1
        try:
            yield
        finally:
            self._here -= 1
            Egress._everywhere -= 1

    async def _carry(self, inner: SandboxSide) -> None:
        client = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * http_requests.MAX_HEAD)
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                request = await http_requests.read_request(inner.read, client)
        except TimeoutError:
            raise RequestRefused(408, f"no request was received in {_HEAD_SECONDS:.0f} s") from None
        if request is None:
            return
        target = http_requests.Target.of(request)
        kind = self._kind(target)
        onward = None if target.tunnel else http_requests.forwarded(request, target)
        async with self._connect(target) as outer, IdleTimeout() as idle:
            if onward is not None:
                await exchange(inner, client, outer, onward, idle)
                return
            early = client.trailing_data[0]
            await inner.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            if kind == TLS:
                early = await open_tls(inner, early, outer, target, idle)
            outer[1].write(early)
            await relay(inner, outer, idle)

    def _kind(self, target: http_requests.Target) -> str:
        """Returns which protocol the connection may carry. Raises RequestRefused if the rules forbid it."""
        host, port, where = target.host, target.port, written(target.host, target.port)
        if any(rule.names(host) and rule.port in (None, port) for rule in self._denied):
            raise RequestRefused(403, f"{where} is denied by the operator")
        kinds = (RAW, TLS) if target.tunnel else (HTTP,)
        asked = [kind for kind in kinds if any(rule.allows(host, port, kind) for rule in self._rules)]
        if not asked:
            raise self._not_asked_for(target)
        for kind in asked:
            if not self._operator or any(rule.allows(host, port, kind) for rule in self._operator):
                return kind
        raise RequestRefused(403, f"{where} is not among the hosts that the operator allows")

    def _not_asked_for(self, target: http_requests.Target) -> RequestRefused:
        host, where = target.host, written(target.host, target.port)
        listed = f"It allows: {', '.join(rule.text for rule in self._rules)[:500]}."
        if not any(rule.names(host) for rule in self._rules):
            return RequestRefused(
                403,
                f"{host} is not among this sandbox's allow_hosts",
                f"{listed} Create the sandbox with {host} in allow_hosts.",
            )
        what = "tunnel" if target.tunnel else "plain HTTP"
        return RequestRefused(
            403,
            f"this sandbox's allow_hosts allow no {what} to {where}",
            f"{listed} A name alone allows plain HTTP at port 80 and TLS at port 443. Create the sandbox "
            f"with {where} in allow_hosts for HTTP and TLS at this port, or with tcp://{where} for other "
            "protocols.",
        )

    @asynccontextmanager
    async def _connect(self, target: http_requests.Target) -> AsyncIterator[Streams]:
        """Connects to a checked address; sends all before it closes. Raises RequestRefused."""
        host, port = target.host, target.port
        address = address_of(host)
        found = await self._resolver.addresses(host, port) if address is None else [address]
        for each in found:
            objection = self._addresses.objection(each)
            if objection is not None:
                raise RequestRefused(403, f"{host} {objection}", "Only the operator can open addresses.")
        outer = await dial(found, port)
        if outer is None:
            raise RequestRefused(502, f"{written(host, port)} does not answer")
        writer = outer[1]
        try:
            yield outer
            writer.close()
            async with asyncio.timeout(_LAST_SECONDS):
                await writer.wait_closed()
        finally:
            writer.transport.abort()
