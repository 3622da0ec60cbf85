"""The network: none unless hosts are allowed, and then those hosts only, at public addresses only."""

import asyncio

import pytest

from portico.sandbox import egress, errors
from portico.sandbox.backend import Backend
from portico.sandbox.spec import NetworkPolicy, Spec

GET = """
import urllib.request, urllib.error
def get(url):
    try:
        return urllib.request.urlopen(url, timeout=5).read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    except OSError as error:
        return f"failed {error}"
"""


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",  # noqa: E501
        "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:10.0.0.1",  # noqa: E501
        "2002:7f00:1::", "64:ff9b::a9fe:a9fe", "ff02::1", "nonsense", "fe80::1%eth0",
    ],
)  # fmt: skip
def test_special_addresses_are_not_public(address: str) -> None:
    assert not egress.is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111"])
def test_public_addresses_are(address: str) -> None:
    assert egress.is_public(address)


def test_hosts_are_matched_whole() -> None:
    proxy = egress.Egress(NetworkPolicy(("example.com", "*.wild.org", "odd.net:8443")))
    assert proxy.allows("example.com", 443)
    assert proxy.allows("a.b.wild.org", 80)
    assert proxy.allows("odd.net", 8443)
    for host, port in (
        ("www.example.com", 443), ("example.com.evil.io", 443), ("evilexample.com", 443), ("wild.org", 443),
        ("evilwild.org", 443), ("example.com", 22), ("odd.net", 443),
    ):  # fmt: skip
        assert not proxy.allows(host, port)


@pytest.mark.parametrize("host", ["http://x", "a b", "", "x:99999", "*", "*.", "a/b"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        NetworkPolicy((host,)).check()


async def test_allowed_hosts_are_reached_and_others_are_not(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        body = request.split(b"\r\n")[0] + b"|" + (b"X-Proxied" if b"Proxy-" in request else b"plain")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    policy = NetworkPolicy((f"good.test:{port}", f"rebound.test:{port}", f"127.0.0.1:{port}"))

    async def resolve(host: str, _port: int) -> list[str]:
        return {"rebound.test": ["10.0.0.1", "127.0.0.1"]}.get(host, ["127.0.0.1"])

    # The stand-in for a public host is on loopback, so for this one name the check of the address is lifted.
    looked_at: list[str] = []
    genuine = egress.is_public

    def is_public(address: str) -> bool:
        looked_at.append(address)
        return address == "127.0.0.1" or genuine(address)

    monkeypatch.setattr(egress, "is_public", is_public)
    monkeypatch.setattr(egress.Egress.__init__, "__defaults__", (resolve,))
    box = await backend.create(Spec(network=policy))
    assert (await box.run_cell(GET)).ok

    async def get(url: str) -> str:
        result = await box.run_cell(f"get({url!r})")
        return result.rich[0].data["text/plain"].decode()

    assert "GET /a?b=c HTTP/1.1|plain" in await get(f"http://good.test:{port}/a?b=c")
    assert "403" in await get(f"http://other.test:{port}/")
    assert "403" in await get("http://good.test:1/")
    assert "public" in await get(f"http://rebound.test:{port}/")
    assert "10.0.0.1" in looked_at
    assert "failed" in await get("https://other.test/")
    server.close()
    monkeypatch.setattr(egress, "is_public", genuine)
    assert "public" in await get(f"http://good.test:{port}/")


def test_the_name_in_a_tls_greeting_is_found() -> None:
    import ssl

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="inner.test")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    hello = outgoing.read()
    assert egress.server_name(hello) == "inner.test"
    for cut in range(0, len(hello), 7):
        assert egress.server_name(hello[:cut]) in (
            None,
            "inner.test",
            *(f"{'inner.test'[:n]}" for n in range(11)),
        )
    assert egress.server_name(b"SSH-2.0") is None


LISTENER = """
import socket, struct, threading
server = socket.create_server(("127.0.0.1", 8000), backlog=300)
kept = []
def serve():
    while True:
        peer, _ = server.accept()
        kept.append(peer)
threading.Thread(target=serve, daemon=True).start()
"""
RESET = """
while not kept: pass
peer = kept.pop(0)
peer.sendall(b"some")
import time; time.sleep(0.3)
peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
peer.close()
"""


async def test_a_connection_to_a_port_that_is_reset_has_no_clean_end(backend: Backend) -> None:
    box = await backend.create(Spec())
    try:
        await box.run_cell(LISTENER)
        connection = await box.connect(8000)
        assert (await box.run_cell(RESET)).end.error is None
        assert await connection.read() == b"some"
        with pytest.raises(errors.PortRefused):
            await connection.read()
    finally:
        await box.destroy()


async def test_connections_to_ports_are_counted(backend: Backend) -> None:
    box = await backend.create(Spec())
    try:
        await box.run_cell(LISTENER)
        opened = [await box.connect(8000) for _ in range(128)]
        with pytest.raises(errors.LimitExceeded) as caught:
            await box.connect(8000)
        assert caught.value.limit == "connections"
        await opened[0].close()
        await (await box.connect(8000)).close()
    finally:
        await box.destroy()
