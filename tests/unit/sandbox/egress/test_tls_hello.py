"""The first messages of TLS, which are parsed before they are forwarded."""

import ssl
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.certificates import Authority
from support.egress import greeting, recorded

from portico.sandbox.egress.tls_hello import (
    MAX_HELLO,
    ClientGreeting,
    NotTlsError,
    SecondClientGreeting,
    ServerGreeting,
)

HELLO = greeting("inner.test")
ALERT = b"\x15\x03\x03\x00\x02\x01\x70"
CHANGE = b"\x14\x03\x03\x00\x01\x01"


def read(data: bytes, step: int = 1 << 20, kind: type[ClientGreeting] = ClientGreeting) -> ClientGreeting:
    parsed = kind()
    for start in range(0, len(data), step):
        parsed.feed(data[start : start + step])
    return parsed


def hello(*extensions: tuple[int, bytes], behind: bytes = b"") -> bytes:
    """A ClientHello with only these extensions, in one record."""
    told = b"".join(kind.to_bytes(2, "big") + vector(content) for kind, content in extensions)
    body = b"\x03\x03" + bytes(32) + b"\0" + vector(b"\x13\x01") + b"\x01\0" + vector(told) + behind
    return record(b"\x01" + len(body).to_bytes(3, "big") + body)


def vector(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


def record(content: bytes, kind: int = 22) -> bytes:
    return bytes((kind, 3, 1)) + vector(content)


def name(*hosts: bytes, kind: int = 0) -> tuple[int, bytes]:
    return 0, vector(b"".join(bytes((kind,)) + vector(host) for host in hosts))


@pytest.mark.parametrize("step", [1, 2, 3, 5, 8, 100, 1 << 20])
@pytest.mark.parametrize("size", [1 << 14, 100, 40, 9])
def test_a_greeting_is_read_however_it_is_cut(step: int, size: int) -> None:
    cut = recorded(HELLO, size)
    parsed = read(cut, step)
    assert parsed.done
    assert parsed.name == "inner.test"
    assert parsed.take() == cut
    assert parsed.take() == b""
    assert parsed.rest() == b""


@pytest.mark.parametrize("size", [1 << 14, 40])
def test_no_part_of_a_greeting_is_one(size: int) -> None:
    cut = recorded(HELLO, size)
    for end in range(len(cut)):
        parsed = read(cut[:end])
        assert not parsed.done
        assert parsed.name is None


def test_what_follows_a_greeting_stays_behind() -> None:
    parsed = read(HELLO + CHANGE + b"more")
    assert (parsed.done, parsed.take(), parsed.rest()) == (True, HELLO, CHANGE + b"more")


def test_an_encrypted_greeting_has_its_outer_name() -> None:
    assert read(hello((0xFE0D, bytes(200)), name(b"outer.test"))).name == "outer.test"


def test_a_greeting_may_have_no_name() -> None:
    for data in (greeting(None), hello(), hello((43, b"x"))):
        parsed = read(data)
        assert parsed.done
        assert parsed.name is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0", b"\x80\x2e\x01\x03\x01", b"\0", b"\x17\x03\x03",
        b"\x14\x03\x03", ALERT,
        b"\x16\x02\x00\x00\x05\x01", b"\x16\x03\x00\x00\x05\x01", b"\x16\x03\x04\x00\x05\x01", record(b""),
        b"\x16\x03\x01\x40\x01\x01", record(b"\x02\0\0\0"), record(b"\x01\xff\xff\xff"), record(b"\x01"),
        hello(name(b"a.test"), name(b"b.test")), hello(name(b"a.test", b"b.test")),
        hello(name(b"a.test", kind=1)),
        hello((43, b"x"), (43, b"x")), hello(name(b"a.test"), behind=b"\0"), hello((0, b"")),
        hello((0, b"\0\0")),
        hello((0, name(b"a.test")[1] + b"\0")), hello((0, vector(b"\0" + vector(b"a.test") + b"\0"))),
        hello((0, b"\0\x20\0\0\x06a.test")), hello(name("ä.test".encode())),
        HELLO[:5] + HELLO[5:6] + (len(HELLO) - 10).to_bytes(3, "big") + HELLO[9:],
        record(HELLO[5:] + b"\x01\0\0\0"), record(HELLO[5:] + HELLO[5:]),
        record(HELLO[5:9]) + record(b"", 23) + record(HELLO[9:]),
        record(HELLO[5:9]) + CHANGE + record(HELLO[9:]),
        CHANGE + HELLO, record(b"\x02" + HELLO[6:]),
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(data: bytes) -> None:
    for step in (1, 1 << 20):
        if data == record(b"\x01"):  # the beginning of a ClientHello
            assert not read(data, step).done
        else:
            with pytest.raises(NotTlsError):
                read(data, step)


def test_a_greeting_is_bounded() -> None:
    padding = (21, bytes(MAX_HELLO - 1_000))
    whole = hello(name(b"a.test"), padding)
    assert read(recorded(whole, 1 << 14)).name == "a.test"
    with pytest.raises(NotTlsError):
        read(recorded(hello(name(b"a.test"), (21, bytes(MAX_HELLO))), 1 << 14))
    with pytest.raises(NotTlsError):  # before it is complete
        read(record(b"\x01\x00\xff\xff" + bytes(100)))
    with pytest.raises(NotTlsError):
        read(recorded(HELLO, 1))


def test_a_second_greeting_may_follow_what_was_on_its_way() -> None:
    early = CHANGE + record(b"early", 23)
    parsed = read(early + HELLO + b"rest", 3, SecondClientGreeting)
    assert (parsed.name, parsed.take(), parsed.rest()) == ("inner.test", early + HELLO, b"rest")
    for data in (ALERT + HELLO, record(HELLO[5:9]) + CHANGE + record(HELLO[9:]), b"GET /"):
        with pytest.raises(NotTlsError):
            read(data, kind=SecondClientGreeting)
    with pytest.raises(NotTlsError):
        read(record(bytes(1 << 14), 23) * 2 + HELLO, kind=SecondClientGreeting)


def test_a_server_tells_whether_it_retries() -> None:
    for curve, retries in (("prime256v1", True), ("", False)):
        answer = ServerGreeting()
        data = _answer(HELLO, curve)
        for start in range(len(data)):
            answer.feed(data[start : start + 1])
        assert answer.done
        assert answer.retries is retries
    warned = ServerGreeting()
    warned.feed(ALERT + _answer(HELLO, "prime256v1"))
    assert warned.retries
    for other in (b"HTTP/1.1 400", HELLO, CHANGE):
        with pytest.raises(NotTlsError):
            ServerGreeting().feed(other)


def _answer(data: bytes, curve: str) -> bytes:
    """The answer of OpenSSL's server to a ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = _context([])
    if curve:
        context.set_ecdh_curve(curve)
    incoming.write(data)
    with pytest.raises(ssl.SSLError):
        context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    return outgoing.read()


def _context(names: list[str | None]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        context.load_cert_chain(*Authority(Path(folder)).issue("origin"))
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    return context


_NAMES: list[str | None] = []
_OPENSSL = _context(_NAMES)


def _openssl_name(data: bytes) -> list[str | None]:
    """The names that OpenSSL's server reads; none if it refuses the ClientHello before that."""
    _NAMES.clear()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(data)
    try:
        _OPENSSL.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    except ssl.SSLError:
        pass
    return list(_NAMES)


@given(st.integers(0, 1 << 32), st.integers(1, 4), st.sampled_from([1 << 14, 200, 50]))
@settings(max_examples=400, deadline=None)
def test_a_server_goes_by_no_other_name_than_was_read(seed: int, changes: int, size: int) -> None:
    random = Random(seed)
    data = bytearray(recorded(HELLO, size))
    around = data.find(b"inner.test")
    for _ in range(changes):
        place = random.randrange(len(data))
        if around > 0 and random.random() < 0.5:
            place = max(0, min(len(data) - 1, around + random.randrange(-12, 14)))
        change = random.randrange(3)
        if change == 0:
            data[place] = random.choice((0, 1, 2, 22, 255, data[place] ^ 1 << random.randrange(8)))
        elif change == 1:
            del data[place]
        else:
            data.insert(place, random.randrange(256))
    parsed = ClientGreeting()
    try:
        parsed.feed(bytes(data))
    except NotTlsError:
        return
    if parsed.done:
        for known in _openssl_name(parsed.take()):
            assert known == parsed.name
