"""Rules of allowed hosts: which hosts may be reached, at which ports, with which protocols.

`host` allows plain HTTP at port 80 and TLS at port 443. `host:port` allows both at that port, except that
port 80 is for plain HTTP only and port 443 for TLS only. `tcp://host:port` allows any bytes, which are not
inspected. `*.host` in place of a host covers every name below it. An IPv6 address has brackets.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from portico.sandbox.egress.addresses import parse_network
from portico.sandbox.egress.host_names import Network, address_of, canonical

HTTP: Final = "http"
TLS: Final = "tls"
RAW: Final = "raw"
_NOT_AT: Final = {80: TLS, 443: HTTP}
_RULE: Final = re.compile(r"(tcp://)?(\*\.)?(\[[^\[\]]*\]|[^\[\]:/*]+)(?::([0-9]{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """One parsed rule."""

    text: str
    host: str
    below: bool  # every name below the host, but not the host itself
    port: int | None
    raw: bool

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Parses a rule. Raises ValueError."""
        match = _RULE.fullmatch(text)
        if match is None:
            raise ValueError(f"not a host: {text!r}")
        raw, below, name, digits = match.groups()
        port = int(digits) if digits else None
        if port is not None and not 0 < port < 65_536:
            raise ValueError(f"not a port: {text!r}")
        if raw and port is None:
            raise ValueError(f"tcp:// needs a port: {text!r}")
        host = canonical(name)
        if below and address_of(host) is not None:
            raise ValueError(f"an address has no names below it: {text!r}")
        return cls(text, host, bool(below), port, bool(raw))

    def names(self, host: str) -> bool:
        """Whether the rule covers the host, at some port."""
        return host.endswith("." + self.host) if self.below else host == self.host

    @property
    def reach(self) -> frozenset[tuple[str, int]]:
        """The allowed protocols and ports."""
        if self.port is None:
            return frozenset({(HTTP, 80), (TLS, 443)})
        kinds = {RAW, HTTP, TLS} if self.raw else {HTTP, TLS} - {_NOT_AT.get(self.port)}
        return frozenset((kind, self.port) for kind in kinds)

    def allows(self, host: str, port: int, kind: str) -> bool:
        """Whether the rule allows a protocol at a host's port."""
        return self.names(host) and (kind, port) in self.reach

    def includes(self, other: "Rule") -> bool:
        """Whether the rule covers every host that the other covers."""
        if other.below:
            return self.below and (other.host == self.host or self.names(other.host))
        return self.names(other.host)


def covers(rules: Iterable[Rule], rule: Rule) -> bool:
    """Whether the rules together allow everything that another rule allows."""
    reach = [each.reach for each in rules if each.includes(rule)]
    return rule.reach <= frozenset().union(*reach)


def parse_all(texts: Iterable[str]) -> tuple[Rule, ...]:
    """Parses rules. Raises ValueError."""
    return tuple(Rule.parse(text) for text in texts)


def parse_denied(texts: Iterable[str]) -> tuple[tuple[Rule, ...], tuple[Network, ...]]:
    """Parses denied hosts (names with or without a port) and networks or addresses. Raises ValueError."""
    rules, networks = [], []
    for text in texts:
        try:
            networks.append(parse_network(text))
        except ValueError:
            rule = Rule.parse(text)
            if rule.raw or address_of(rule.host) is not None:
                raise ValueError(f"neither a name with or without a port, nor a network: {text!r}") from None
            rules.append(rule)
    return tuple(rules), tuple(networks)
