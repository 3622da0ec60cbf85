"""Decides which addresses may be connected to: public unicast ones that are not this machine's own.

The tables follow the IANA special-purpose address registries (RFC 6890). They are kept here because Python's
own differ between releases.
"""

import errno
import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

from portico.sandbox.egress.host_names import Address, Network

_SPECIAL: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network, RFC 791
        "10.0.0.0/8",  # private, RFC 1918
        "100.64.0.0/10",  # shared by carriers, RFC 6598; metadata of Alibaba's cloud
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # the host of a virtual machine in Azure
        "169.254.0.0/16",  # link-local, RFC 3927; metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, RFC 6890; metadata of Oracle's cloud
        "192.0.2.0/24",  # documentation, RFC 5737
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks, RFC 2544
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_IPV6: Final = ipaddress.IPv6Network("2000::/3")  # all allocated global unicast, RFC 3513
_SPECIAL_IPV6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, RFC 2928: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation, RFC 3849
        "2002::/16",  # 6to4, RFC 7526
        "3fff::/20",  # documentation, RFC 9637
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # translates to an IPv4 address, RFC 6052
_NEVER: Final = tuple(
    map(ipaddress.ip_network, ("0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "::/128", "ff00::/8"))
)


def is_public(address: Address) -> bool:
    """Whether the number alone makes the address a globally routable unicast address."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL)
    return address in _GLOBAL_IPV6 and not any(address in network for network in _SPECIAL_IPV6)


def is_own(address: Address) -> bool:
    """Whether an interface of this machine has the address now: only such an address can be bound. Also True
    when that cannot be determined."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def parse_network(text: str) -> Network:
    """Parses an address or network. Raises ValueError."""
    return ipaddress.ip_network(text)


def parse_opened(text: str) -> Network:
    """Parses a network that an operator opens. Raises ValueError for addresses that no host can have."""
    network = parse_network(text)
    if any(network.version == never.version and network.overlaps(never) for never in _NEVER):
        raise ValueError(f"contains addresses that no host can have: {text}")
    return network


class AddressBounds:
    """Decides which addresses are refused, and why."""

    def __init__(self, denied: Iterable[Network] = (), opened: Iterable[Network] = ()) -> None:
        """`denied` networks are always refused. `opened` networks need not be public; an address of this
        machine, other than loopback, must be opened by itself (/32 or /128)."""
        self._denied, self._opened = tuple(denied), tuple(opened)

    def objection(self, address: Address) -> str | None:
        """Returns why the proxy must not connect to the address; None if it may."""
        address = plain(address)
        meant = {address, _behind(address)}
        if any(one in network for network in self._denied for one in meant):
            return "is an address that the operator denies"
        opened = [network for network in self._opened if any(one in network for one in meant)]
        if not opened and not is_public(_behind(address)):
            return "is not at a public address"
        alone = any(network.num_addresses == 1 for network in opened)
        if not alone and any(is_own(one) for one in meant if not one.is_loopback):
            return "is at an address of this machine"
        return None


def plain(address: Address) -> Address:
    """Returns the IPv4 address of an IPv4-mapped IPv6 address (::ffff:1.2.3.4); any other address
    unchanged."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _behind(address: Address) -> Address:
    """Returns the IPv4 address that NAT64 translates to; any other address unchanged."""
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
