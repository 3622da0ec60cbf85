"""Hosts and origins are normalised to one spelling, and invalid ones are refused."""

import pytest

from portico.gateways.a2a.settings import A2aSettings
from portico.gateways.http.request.host_origin import Hosts, parse_authority, same_origin
from portico.gateways.http.settings import HttpSettings

LOOPBACK = (
    *(
        "0.0.0.0:8090",
        "[::]:8090",
        "localhost",
        "LocalHost:8090",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:65535",
        "127.9.9.9:1",
    ),
    *("[::1]", "[::1]:8090", "[0:0:0:0:0:0:0:1]:8090", "[::ffff:127.0.0.1]:8090"),
)
OTHER = (
    *("", "evil.example", "localhost.evil.example", "evil.example:8090", "127.0.0.1.evil.example"),
    *("localhost@evil.example", "evil.example#localhost", "localhost/x", "localhost:80:80", "localhost: 80"),
    *(
        "localhost, evil.example",
        "a.localhost",
        "localhost..",
        "::1",
        "[::1",
        "[localhost]",
        "[::1].evil.example",
    ),
    *("127.1", "2130706433", "0x7f.0.0.1", "0.0.0.1:8090", "[::2]:8090", "192.168.1.5", "[fe80::1]"),
    *("localhost\t", "\xe9vil", ".", "*"),
)


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_is_answered(host: str) -> None:
    assert Hosts([], []).answer(host)


@pytest.mark.parametrize("host", OTHER)
def test_no_other_host_is_answered(host: str) -> None:
    assert not Hosts(["127.0.0.1", "::1"], []).answer(host)


def test_a_host_that_is_served_is_answered() -> None:
    hosts = Hosts(["Box.local", "192.168.1.5", "fe80::1%eth0"], [])
    for host in ("box.local:8090", "BOX.LOCAL.", "192.168.1.5:8090", "[fe80::1]:8090", "localhost"):
        assert hosts.answer(host)
    for host in ("a.box.local", "192.168.1.6", "[fe80::2]"):
        assert not hosts.answer(host)


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])
def test_who_listens_everywhere_is_reached_by_any_address_and_by_no_name(everywhere: str) -> None:
    hosts = Hosts([everywhere], [])
    for host in ("192.168.1.5:8090", "10.0.0.1", "[fd00::1]:8090", "0.0.0.0:8090", "localhost:8090"):
        assert hosts.answer(host)
    for host in ("evil.example", "evil.example:8090", "box.local"):
        assert not hosts.answer(host)


def test_hosts_can_be_added_for_every_port_or_one() -> None:
    hosts = Hosts([], ["App.example", "two.example:8443", "three.example:*", "[fd00::1]"])
    for host in ("app.example", "app.example:1", "two.example:8443", "three.example:5", "[fd00::1]:8090"):
        assert hosts.answer(host)
    for host in ("two.example", "two.example:8444", "x.app.example", "app.example.evil.example"):
        assert not hosts.answer(host)


def test_an_authority_has_one_spelling() -> None:
    assert parse_authority("LOCALHOST.:80") == parse_authority("localhost:80")
    assert parse_authority("[::0001]") == parse_authority("[::1]")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8090", "127.0.0.1:8090"),
        ("http://localhost:8090", "LOCALHOST.:8090"),
        ("https://app.example", "app.example"),
        ("https://app.example", "app.example:443"),  # TLS may end at a proxy
        ("http://app.example", "app.example:80"),
        ("http://[::1]:8090", "[::1]:8090"),
    ],
)
def test_a_gateways_own_pages_have_its_origin(origin: str, host: str) -> None:
    assert same_origin(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", "null"),
        ("file://", "localhost:8090"),
        ("file://localhost:8090", "localhost:8090"),
        ("http://localhost:3000", "localhost:8090"),  # another port is another application
        ("http://localhost", "localhost:8090"),
        ("http://127.0.0.1:8090", "localhost:8090"),
        ("http://localhost.evil.example:8090", "localhost:8090"),
        ("http://evil.example", "localhost:8090"),
        ("http://app.example", "app.example:443"),
        ("http://localhost:8090@evil.example", "localhost:8090"),
        ("http://localhost:8090/", "localhost:8090"),
        ("localhost:8090", "localhost:8090"),
        ("://localhost:8090", "localhost:8090"),
        ("", ""),
    ],
)
def test_no_other_page_has_it(origin: str, host: str) -> None:
    assert not same_origin(origin, host)


@pytest.mark.parametrize(
    "wrong",
    ["app.example", "https://app.example/", "https://App.example", "https://app.example:443", "", "x y"],
)
def test_a_setting_that_no_browser_sends_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        HttpSettings(cors_origins=[wrong])


@pytest.mark.parametrize("wrong", ["*", "http://app.example", "app.example/x", "*.app.example", "::1", ""])
def test_a_setting_that_is_no_host_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        A2aSettings(allowed_hosts=[wrong])


def test_what_browsers_send_can_be_set() -> None:
    origins = ["*", "null", "https://app.example", "http://localhost:3000", "chrome-extension://abcdef"]
    assert HttpSettings(cors_origins=origins).cors_origins == origins
