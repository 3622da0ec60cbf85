"""Normalizes host names, so that they can be compared, resolved and connected to."""

import ipaddress
import re
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_NAME: Final = 253  # characters, RFC 1035 section 2.3.4 without the last dot
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


def canonical(host: str) -> str:
    """Returns a name in lower case, as A-labels (RFC 5890), without its last dot; or an address as
    `ipaddress` formats it, IPv6 without brackets. Raises ValueError for other texts, such as 0x7f.1 or
    [fe80::1%eth0].
    """
    if host.startswith("["):
        if not host.endswith("]") or "%" in host:
            raise ValueError(f"not an IPv6 address: {host!r}")
        return str(ipaddress.IPv6Address(host[1:-1]))
    if not host.isascii():
        import idna  # here, because its tables are large and few hosts need them

        host = idna.encode(host, uts46=True).decode("ascii")
    name = host.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"not a host name: {host!r}")
    if _NUMBER.fullmatch(labels[-1]):
        # Resolvers accept 2130706433, 0x7f.1 and 0177.0.0.1 as addresses; here only four decimal numbers are.
        return str(ipaddress.IPv4Address(name))
    return name


def address_of(host: str) -> Address | None:
    """Returns the address if a canonical host is one; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def written(host: str, port: int) -> str:
    """Returns host:port, as in the authority of a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
