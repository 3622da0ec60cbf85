"""Decides which receivers may be notified: only public addresses, unless an operator allows others.

A name is resolved once per delivery, and the connection goes to the address that was checked, so that a name
that changes in between cannot redirect it.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

_SCHEMES = {"http": 80, "https": 443}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressRefused(Exception):
    """The receiver must not be called or can't be resolved; the message is for the caller that named it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A receiver that may be called."""

    url: str
    host: str
    port: int
    address: str


class AddressCheck:
    """Checks URLs. `allow` lists networks, such as 10.0.0.0/8, and hosts, such as localhost."""

    def __init__(self, allow: Sequence[str]) -> None:
        self._networks: list[Network] = []
        self._hosts: set[str] = set()
        for entry in allow:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._hosts.add(entry.lower())

    async def check(self, url: str) -> Target:
        """Resolves a URL and checks its addresses. Raises AddressRefused."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise AddressRefused("is not a URL") from None
        if parts.scheme not in _SCHEMES or not host:
            raise AddressRefused("must be an http: or https: URL with a host")
        if parts.username is not None or parts.password is not None:
            raise AddressRefused("must not contain a credential")
        port = port or _SCHEMES[parts.scheme]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise AddressRefused("has a host that can't be resolved") from None
        addresses = [str(entry[4][0]) for entry in found]
        # All of them must be allowed, since any may be used next time.
        if host.lower() not in self._hosts and not all(map(self._allowed, addresses)):
            raise AddressRefused("has a host that is not public")
        return Target(url, host, port, addresses[0])

    def _allowed(self, text: str) -> bool:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
        inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
        address = inner or address
        if any(address in network for network in self._networks):
            return True
        return address.is_global and not (address.is_multicast or address.is_reserved)
