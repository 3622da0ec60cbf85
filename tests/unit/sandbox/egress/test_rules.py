"""Which hosts a rule covers, and how host names are normalized."""

import pytest

from portico.sandbox import errors
from portico.sandbox.egress.host_names import canonical
from portico.sandbox.egress.rules import HTTP, RAW, TLS, Rule, covers, parse_all
from portico.sandbox.spec import MAX_HOSTS, NetworkBounds, NetworkPolicy


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4.", "1.2.3.4"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("_dns.example.com", "_dns.example.com"),
    ],
)
def test_a_host_is_written_in_one_way(written: str, meant: str) -> None:
    assert canonical(written) == meant


@pytest.mark.parametrize(
    "host",
    [
        "", ".", "..", "a..b", ".a", "a b", "-a.com", "a-.com", "a/b", "a@b", "a:b", "a%2eb", "a\\b",
        "a\0b", "*",
        "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "1.2.3", "1.2.3.256", "1.2.3.4.5",
        "01.2.3.4",
        "example.0x", "[::1", "::1", "[fe80::1%eth0]", "[127.0.0.1]", "[]", "a" * 64 + ".com",
        "a." * 127 + "com",
        "１.2.3.4.5", "\u00ad", "a\u2024b..c",
    ],
)  # fmt: skip
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError):
        canonical(host)


def test_a_rule_names_hosts_whole() -> None:
    plain, below = Rule.parse("example.com"), Rule.parse("*.wild.org")
    assert plain.names("example.com")
    assert below.names("a.wild.org")
    assert below.names("a.b.wild.org")
    for host in ("www.example.com", "example.com.evil.io", "evilexample.com", "example.co", "com"):
        assert not plain.names(host)
    for host in ("wild.org", "evilwild.org", "a.wild.org.evil.io", "org"):
        assert not below.names(host)


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        ("a.com", [(HTTP, 80), (TLS, 443)], [(TLS, 80), (HTTP, 443), (RAW, 80), (RAW, 443), (TLS, 22)]),
        ("a.com:8443", [(HTTP, 8443), (TLS, 8443)], [(RAW, 8443), (HTTP, 80), (TLS, 443)]),
        ("a.com:443", [(TLS, 443)], [(HTTP, 443), (RAW, 443), (HTTP, 80)]),
        ("a.com:80", [(HTTP, 80)], [(TLS, 80), (RAW, 80), (TLS, 443)]),
        ("tcp://a.com:22", [(RAW, 22), (TLS, 22), (HTTP, 22)], [(RAW, 23), (TLS, 443), (HTTP, 80)]),
    ],
)
def test_a_rule_lists_ports_and_what_they_carry(
    rule: str, allowed: list[tuple[str, int]], refused: list[tuple[str, int]]
) -> None:
    parsed = Rule.parse(rule)
    assert all(parsed.allows("a.com", port, kind) for kind, port in allowed)
    assert not any(parsed.allows("a.com", port, kind) for kind, port in refused)
    assert not any(parsed.allows("b.com", port, kind) for kind, port in allowed)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("a.com", "a.com"), ("*.a.com", "b.a.com"), ("*.a.com", "*.a.com"), ("*.a.com", "*.b.a.com"),
        ("a.com", "a.com:443"), ("tcp://a.com:5432", "a.com:5432"), ("a.com", "A.com."),
        ("a.com:80 b.com a.com:443", "a.com"), ("*.a.com:80 b.a.com:443", "b.a.com"),
    ],
)  # fmt: skip
def test_a_rule_covers_another(outer: str, inner: str) -> None:
    assert covers(parse_all(outer.split()), Rule.parse(inner))


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("a.com", "b.com"), ("b.a.com", "*.a.com"), ("*.b.a.com", "*.a.com"), ("*.a.com", "a.com"),
        ("a.com", "*.a.com"), ("a.com:443", "a.com"), ("a.com", "a.com:8080"),
        ("a.com:5432", "tcp://a.com:5432"),
        ("*.a.com", "*.com"), ("", "a.com"), ("a.com:80 b.com:443", "a.com"),
    ],
)  # fmt: skip
def test_a_rule_does_not_cover_what_is_more(outer: str, inner: str) -> None:
    assert not covers(parse_all(outer.split()), Rule.parse(inner))


@pytest.mark.parametrize(
    "rule",
    [
        "http://x", "x:99999", "x:0", "x:", "*", "*.", "a/b", "a.*.com", "**.com", "tcp://a.com",
        "tcp://a.com:0",
        "tcp://", "udp://a.com:53", "*.1.2.3.4", "a.com:443:443", "::1", "[::1%lo]", "a.com:١", "a@b.com", "",
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_when_a_sandbox_is_made(rule: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        NetworkPolicy((rule,)).check()
    with pytest.raises(errors.InvalidRequest):
        NetworkPolicy(bounds=NetworkBounds(hosts=(rule,))).check()


def test_a_sandbox_has_so_many_rules() -> None:
    NetworkPolicy(("a.com",) * MAX_HOSTS).check()
    with pytest.raises(errors.InvalidRequest):
        NetworkPolicy(("a.com",) * (MAX_HOSTS + 1)).check()


@pytest.mark.parametrize(
    "network",
    [
        "0.0.0.0/8", "0.0.0.0/0", "::", "::/0", "224.0.0.0/24", "255.255.255.255", "ff02::/16", "10.0.0.1/8",
        "a",
    ],
)  # fmt: skip
def test_what_no_host_has_cannot_be_opened(network: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        NetworkPolicy(bounds=NetworkBounds(open=(network,))).check()


@pytest.mark.parametrize("denied", ["10.0.0.0/8", "1.2.3.4", "fd00::/8", "*.corp.example", "a.com:22", "::1"])
def test_hosts_and_networks_can_be_denied(denied: str) -> None:
    NetworkPolicy(bounds=NetworkBounds(deny=(denied,))).check()


@pytest.mark.parametrize(
    "denied", ["10.0.0.0/33", "10.0.0.1:22", "[::1]", "[::1]:22", "tcp://a.com:22", "a b"]
)
def test_what_cannot_be_denied_is_refused(denied: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        NetworkPolicy(bounds=NetworkBounds(deny=(denied,))).check()
