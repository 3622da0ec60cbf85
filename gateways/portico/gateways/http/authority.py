"""Hosts and origins as requests name them, in one spelling each."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# A name, or an address of version 6 in brackets; no credential, no path, nothing else a URL may have.
_AUTHORITY: Final = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#@\s]+)")


@dataclass(frozen=True, slots=True)
class Authority:
    """A host, in lower case and without a last dot, and its port if one is named."""

    host: str
    port: int | None

    @property
    def is_address(self) -> bool:
        return _address(self.host) is not None

    @property
    def is_loopback(self) -> bool:
        """Whether it is `localhost`, a loopback address, or 0.0.0.0 or ::, which connect to one. Any other
        name may have any address."""
        address = _address(self.host)
        return self.host == "localhost" if address is None else address.is_loopback or address.is_unspecified


@lru_cache(maxsize=1024)
def parse_authority(text: str) -> Authority | None:
    """None for what is not `host` or `host:port`."""
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
    """Whether an Origin names this Host. The scheme is not compared: TLS may end before the gateway."""
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return False
    default = _DEFAULT_PORTS.get(found["scheme"])
    theirs, own = parse_authority(found["authority"]), parse_authority(host)
    if default is None or theirs is None or own is None:
        return False
    return theirs.host == own.host and (theirs.port or default) == (own.port or default)


def check_origin(text: str) -> str:
    """An origin as browsers send it, `null`, or `*` for all of them. Raises ValueError."""
    found = _ORIGIN.fullmatch(text)
    default = found is not None and text.endswith(f":{_DEFAULT_PORTS.get(found['scheme'])}")
    if text not in ("*", "null") and (found is None or default or text != text.lower()):
        raise ValueError(
            f"{text!r} is not an origin: write scheme://host[:port] as a browser sends it, in lower case, "
            "without a path and without the scheme's default port"
        )
    return text


def check_host(text: str) -> str:
    """`host`, which stands for every port, or `host:port`. Raises ValueError."""
    if parse_authority(text.removesuffix(":*")) is None:
        raise ValueError(f"{text!r} is not a host: write a name or an address, with :port for that port only")
    return text


class Hosts:
    """Which Host headers a gateway answers while its core checks no credentials.

    Those that a page of another site can't have by rebinding its own name to this machine: loopback, what
    the gateway was told to listen on, and what an operator adds.
    """

    def __init__(self, listening: Sequence[str], added: Sequence[str]) -> None:
        # A zone is this machine's word for an interface; no Host header has one.
        plain = [host.strip("[]").partition("%")[0] for host in listening]
        listed = [parse_authority(f"[{host}]" if ":" in host else host) for host in plain]
        # Who listens everywhere is reached by any address; a page can rebind a name only.
        self._any_address = any(one is not None and one.host in ("0.0.0.0", "::") for one in listed)  # noqa: S104
        self._hosts: set[tuple[str, int | None]] = {(one.host, None) for one in listed if one is not None}
        for entry in added:
            one = parse_authority(entry.removesuffix(":*"))
            if one is not None:
                self._hosts.add((one.host, one.port))

    def answer(self, text: str) -> bool:
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
