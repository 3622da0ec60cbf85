"""Parses and compares the hosts and origins that requests name."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# A name, an IPv4 address, or an IPv6 address in brackets; no credentials and no path.
_AUTHORITY: Final = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#@\s]+)")


@dataclass(frozen=True, slots=True)
class Authority:
    """A host, in lower case and without a trailing dot, and its port if one was named."""

    host: str
    port: int | None

    @property
    def is_address(self) -> bool:
        return _address(self.host) is not None

    @property
    def is_loopback(self) -> bool:
        """Whether the host is `localhost`, a loopback address, or 0.0.0.0 or ::, which connect to loopback.
        Any other name may resolve to any address.
        """
        address = _address(self.host)
        return self.host == "localhost" if address is None else address.is_loopback or address.is_unspecified


@lru_cache(maxsize=1024)
def parse_authority(text: str) -> Authority | None:
    """Parses `host` or `host:port`; returns None for anything else."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    host = found["host"].strip("[]").lower().removesuffix(".")
    address = _address(host)
    if address is None and (not host or found["host"].startswith("[")):
        return None
    port = None if found["port"] is None else int(found["port"])
    return Authority(host if address is None else str(address), port)


@lru_cache(maxsize=1024)
def same_origin(origin: str, host: str) -> bool:
    """Returns whether an Origin header names the same host and port as a Host header. Schemes are not
    compared, since TLS may end at a proxy before the gateway.
    """
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return False
    default = _DEFAULT_PORTS.get(found["scheme"])
    theirs, own = parse_authority(found["authority"]), parse_authority(host)
    if default is None or theirs is None or own is None:
        return False
    return theirs.host == own.host and (theirs.port or default) == (own.port or default)


def check_origin(text: str) -> str:
    """Returns the text if it is an origin as browsers send it, `null`, or `*` for all origins. Raises
    ValueError.
    """
    found = _ORIGIN.fullmatch(text)
    default = found is not None and text.endswith(f":{_DEFAULT_PORTS.get(found['scheme'])}")
    if text not in ("*", "null") and (found is None or default or text != text.lower()):
        raise ValueError(
            f"{text!r} is not an origin; expected scheme://host[:port] as a browser sends it, in lower case, "
            "without a path and without the scheme's default port"
        )
    return text


def check_host(text: str) -> str:
    """Returns the text if it is `host` (any port) or `host:port`. Raises ValueError."""
    if parse_authority(text.removesuffix(":*")) is None:
        raise ValueError(
            f"{text!r} is not a host; expected a name or an address, with :port to allow that port only"
        )
    return text


class Hosts:
    """The Host headers that a gateway answers while its core checks no credentials.

    Only hosts that a page of another site cannot obtain by rebinding its own name to this machine: loopback,
    the hosts that the gateway listens on, and hosts that an operator adds.
    """

    def __init__(self, listening: Sequence[str], added: Sequence[str]) -> None:
        # A zone names an interface of this machine; Host headers never have one.
        plain = [host.strip("[]").partition("%")[0] for host in listening]
        listed = [parse_authority(f"[{host}]" if ":" in host else host) for host in plain]
        # A gateway bound to all interfaces is reachable by any address. Pages can rebind names only, so
        # addresses are safe.
        self._any_address = any(one is not None and one.host in ("0.0.0.0", "::") for one in listed)  # noqa: S104
        self._hosts: set[tuple[str, int | None]] = {(one.host, None) for one in listed if one is not None}
        for entry in added:
            one = parse_authority(entry.removesuffix(":*"))
            if one is not None:
                self._hosts.add((one.host, one.port))

    def answer(self, text: str) -> bool:
        """Returns whether requests with this Host header are answered."""
        host = parse_authority(text)
        if host is None:
            return False
        if host.is_loopback or (self._any_address and host.is_address):
            return True
        return (host.host, None) in self._hosts or (host.host, host.port) in self._hosts


@lru_cache(maxsize=1024)
def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
