"""Tunnels through a sandbox's proxy: TLS to the requested host, raw TCP if a rule allows it."""

import asyncio
import socket
import ssl
import struct
import time
from pathlib import Path

import pytest
from support.egress import Client, Names, greeting, origin, recorded, serving, tls_origin

from portico.sandbox.egress import idle_timeout, proxy, tls_hello, tunnel
from portico.sandbox.spec import NetworkBounds


def talk(port: int, host: str, there: int, authority: Path, name: str | None, *, again: bool = False) -> str:
    """The answer that a real TLS client receives, or its error."""
    context = ssl.create_default_context(cafile=str(authority))
    if name is None:
        context.check_hostname = False
    client = Client(port)
    try:
        assert b" 200 " in client.connect(host, there)
        with context.wrap_socket(client.socket, server_hostname=name) as session:
            session.sendall(b"hello")
            return session.recv(100).decode()
    except (ssl.SSLError, OSError) as error:
        return f"failed: {error}"
    finally:
        client.close()


async def test_tls_passes_by_its_own_name_only(tmp_path: Path) -> None:
    async with (
        tls_origin(tmp_path, "good.test", "evil.test") as host,
        serving(f"good.test:{host.port}", f"127.0.0.1:{host.port}") as port,
    ):

        async def said(name: str | None, target: str = "good.test") -> str:
            return await asyncio.to_thread(talk, port, target, host.port, host.authority, name)

        assert await said("good.test") == "hello"
        assert await said("GOOD.test") == "hello"
        assert await said(None, "127.0.0.1") == "hello"  # RFC 6066: addresses are not sent as names
        assert await said("127.0.0.1", "127.0.0.1") == "hello"
        known = len(host.greeted)
        for name, target in (("evil.test", "good.test"), (None, "good.test"), ("good.test", "127.0.0.1")):
            assert "UNRECOGNIZED_NAME" in await said(name, target)
        assert len(host.greeted) == known


@pytest.mark.parametrize("cut", [1, 5, 8, 40])
async def test_a_greeting_in_pieces_is_one_greeting(tmp_path: Path, cut: int) -> None:
    def send(port: int, there: int, data: bytes, step: int) -> bytes:
        client = Client(port)
        assert b" 200 " in client.connect("good.test", there)
        try:
            for start in range(0, min(len(data), step * 3), step):
                client.socket.sendall(data[start : start + step])
                time.sleep(0.02)
            client.socket.sendall(data[step * 3 :])
            return client.socket.recv(100)
        except ConnectionError:
            return b""
        finally:
            client.close()

    async with (
        tls_origin(tmp_path, "good.test", "evil.test") as host,
        serving(f"good.test:{host.port}") as port,
    ):
        for data in (greeting("evil.test"), recorded(greeting("evil.test"), 30), greeting(None)):
            assert await asyncio.to_thread(send, port, host.port, data, cut) == tls_hello.UNRECOGNIZED_NAME
        assert host.greeted == []
        for data in (greeting("good.test"), recorded(greeting("good.test"), 30)):
            assert (await asyncio.to_thread(send, port, host.port, data, cut))[:2] == b"\x16\x03"
        assert host.greeted == ["good.test"] * 2


async def test_a_second_greeting_has_the_same_name(tmp_path: Path) -> None:
    def send(port: int, there: int, second: bytes, *, at_once: bool) -> bytes:
        client = Client(port)
        assert b" 200 " in client.connect("good.test", there)
        first = greeting("good.test", ssl.TLSVersion.TLSv1_3)
        client.socket.sendall(first + second if at_once else first)
        record = client.socket.recv(5, 0x100)  # MSG_WAITALL
        retry = client.socket.recv(int.from_bytes(record[3:], "big"), 0x100)
        assert retry[6:38] == tls_hello._RETRY
        if client.socket.recv(6, 0x102) == b"\x14\x03\x03\x00\x01\x01":  # and MSG_PEEK
            client.socket.recv(6)
        if not at_once:
            client.socket.sendall(second)
        got = client.socket.recv(7)
        client.close()
        return got

    async with (
        tls_origin(tmp_path, "good.test", "evil.test", curve="secp384r1") as host,
        serving(f"good.test:{host.port}") as port,
    ):
        real = await asyncio.to_thread(talk, port, "good.test", host.port, host.authority, "good.test")
        assert real == "hello"
        known = len(host.greeted)
        for at_once in (True, False):
            for before in (b"", b"\x14\x03\x03\x00\x01\x01", b"\x17\x03\x03\x00\x01x"):
                second = before + greeting("evil.test", ssl.TLSVersion.TLSv1_3)
                got = await asyncio.wait_for(
                    asyncio.to_thread(send, port, host.port, second, at_once=at_once), 20
                )
                assert got == tls_hello.UNRECOGNIZED_NAME
        assert "evil.test" not in host.greeted[known:]


async def test_what_is_not_tls_needs_a_rule_that_says_so() -> None:
    def send(port: int, host: str, there: int, data: bytes) -> bytes:
        client = Client(port)
        head = client.connect(host, there)
        if b" 200 " not in head:
            return head
        client.socket.sendall(data)
        got = client.socket.recv(1_000)
        client.close()
        return got

    async with origin(b"HTTP/1.1 200 raw\r\n\r\n") as host:
        where = f"good.test:{host.port}"
        for rules, passes in (
            ((where,), False),
            ((f"tcp://{where}",), True),
            ((f"tcp://*.test:{host.port}",), True),
        ):
            async with serving(*rules) as port:
                for data in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"\x17\x03\x03\r\n\r\n"):
                    got = await asyncio.to_thread(send, port, "good.test", host.port, data)
                    assert (got == b"HTTP/1.1 200 raw\r\n\r\n") is passes, got
                    if not passes:
                        assert b"403 this tunnel is for TLS" in got
                        assert f"tcp://{where}".encode() in got
        assert len(host.got) == 6 + 3  # three connections were made without data
        assert host.got[:3] == [b""] * 3


async def test_an_operator_can_allow_less_than_raw_bytes(tmp_path: Path) -> None:
    async with tls_origin(tmp_path, "good.test", "evil.test") as host:
        where = f"good.test:{host.port}"
        bounds = NetworkBounds(hosts=(where,), open=("127.0.0.0/8",))
        async with serving(f"tcp://{where}", bounds=bounds) as port:
            said = await asyncio.to_thread(talk, port, "good.test", host.port, host.authority, "good.test")
            assert said == "hello"
            said = await asyncio.to_thread(talk, port, "good.test", host.port, host.authority, "evil.test")
            assert "UNRECOGNIZED_NAME" in said


@pytest.mark.parametrize(("rule", "there"), [("good.test", 80), ("good.test", 22), ("good.test:80", 80), ("good.test:81", 443)])  # fmt: skip  # noqa: E501
async def test_a_tunnel_goes_to_listed_ports(rule: str, there: int) -> None:
    async with serving(rule) as port:
        client = Client(port)
        got = await asyncio.to_thread(client.connect, "good.test", there)
        client.close()
        assert got.startswith(
            f"HTTP/1.1 403 this sandbox's allow_hosts allow no tunnel to good.test:{there}".encode()
        )


async def test_a_host_may_speak_first() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    there = server.sockets[0].getsockname()[1]
    async with server, serving(f"tcp://good.test:{there}") as port:
        client = Client(port)
        assert b" 200 " in await asyncio.to_thread(client.connect, "good.test", there)
        assert await asyncio.to_thread(client.rest) == b"220 ready\r\n"
        client.close()


async def test_a_name_is_resolved_once_and_the_connection_goes_where_was_looked() -> None:
    async with origin() as one:
        answers = [["127.0.0.1"], ["10.0.0.1"], ["127.0.0.1", "169.254.169.254"], ["10.0.0.1", "127.0.0.1"]]
        asked = []

        def lookup(host: str, _port: int) -> list[str]:
            asked.append(host)
            return answers[len(asked) - 1]

        async with serving(f"tcp://good.test:{one.port}", lookup=lookup) as port:
            for place, passes in enumerate((True, False, False, False)):
                client = Client(port)
                got = await asyncio.to_thread(client.connect, "good.test", one.port)
                assert (b" 200 " in got) is passes
                assert len(asked) == place + 1
                client.close()


@pytest.mark.parametrize("text", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "[::ffff:127.0.0.1]", "[::1]"])  # fmt: skip  # noqa: E501
async def test_addresses_written_another_way_lead_nowhere(text: str) -> None:
    async with origin() as host, serving(f"tcp://*.test:{host.port}", f"tcp://127.0.0.2:{host.port}") as port:
        client = Client(port)
        assert (await asyncio.to_thread(client.connect, text, host.port))[9:12] in (b"400", b"403")
        client.close()
        assert host.got == []


async def test_a_greeting_must_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "GREETING_SECONDS", 0.3)
    async with origin() as host, serving(f"good.test:{host.port}") as port:
        for data in (b"", greeting("good.test")[:-1]):
            client = Client(port)
            assert b" 200 " in await asyncio.to_thread(client.connect, "good.test", host.port)
            client.socket.sendall(data)
            assert b" 408 " in await asyncio.to_thread(client.rest)
            client.close()
        assert host.got == [b""] * 2


async def test_an_idle_tunnel_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_timeout, "_SECONDS", 2.5)
    async with origin() as host, serving(f"tcp://good.test:{host.port}") as port:
        client = Client(port)
        assert b" 200 " in await asyncio.to_thread(client.connect, "good.test", host.port)
        begun = time.monotonic()
        for _ in range(6):
            client.socket.sendall(b"x")
            await asyncio.sleep(0.5)
        assert await asyncio.to_thread(client.rest) == b""
        assert time.monotonic() - begun > 3.0 + 1.0  # traffic restarts the timeout
        client.close()
        assert host.text == "x" * 6


async def test_who_has_ended_one_side_is_not_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_timeout, "_HALF_SECONDS", 0.3)
    async with origin(after=b"the end", deaf=True) as host, serving(f"tcp://good.test:{host.port}") as port:
        where = f"good.test:{host.port}"
        for request in (f"CONNECT {where}", f"GET http://{where}/"):
            client = Client(port)
            client.socket.sendall(f"{request} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
            client.socket.shutdown(1)
            begun = time.monotonic()
            rest = await asyncio.to_thread(client.rest)
            assert rest in (b"", b"HTTP/1.1 200 Connection established\r\n\r\n")
            assert time.monotonic() - begun < 8
            client.close()


async def test_a_host_must_answer_a_greeting_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "GREETING_SECONDS", 0.3)
    async with origin(after=b"the end") as host, serving(f"good.test:{host.port}") as port:
        client = Client(port)
        assert b" 200 " in await asyncio.to_thread(client.connect, "good.test", host.port)
        client.socket.sendall(greeting("good.test"))
        assert await asyncio.wait_for(asyncio.to_thread(client.rest), 20) == b""
        client.close()
        assert host.got[0] != b""


async def test_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "CONNECTIONS", 3)
    async with origin() as host, serving(f"tcp://good.test:{host.port}") as port:
        for _ in range(2):
            clients = [Client(port) for _ in range(4)]
            got = [await asyncio.to_thread(client.connect, "good.test", host.port) for client in clients[:3]]
            assert all(b" 200 " in head for head in got)
            assert (await asyncio.to_thread(clients[3].head)).startswith(b"HTTP/1.1 503 this sandbox has 3")
            for client in clients:
                client.close()
            await nobody()
        monkeypatch.setattr(proxy, "_SHARE", 1 << 40)
        client = Client(port)
        assert (await asyncio.to_thread(client.head)).startswith(b"HTTP/1.1 503 all sandboxes")
        client.close()


@pytest.mark.parametrize("first_half", [True, False])
async def test_who_leaves_ends_both_ways(first_half: bool) -> None:
    async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()
        except ConnectionError:
            ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    there = server.sockets[0].getsockname()[1]
    async with server, serving(f"tcp://good.test:{there}") as port:
        client = Client(port)
        assert b" 200 " in await asyncio.to_thread(client.connect, "good.test", there)
        if first_half:
            client.socket.shutdown(1)
            await asyncio.sleep(0.1)
        client.close()
        await asyncio.wait_for(ended.wait(), 20)
        await nobody()


async def test_who_breaks_off_is_not_waited_for() -> None:
    async with origin(after=b"the end", deaf=True) as host, serving(f"tcp://good.test:{host.port}") as port:
        client = Client(port)
        assert b" 200 " in await asyncio.to_thread(client.connect, "good.test", host.port)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        await asyncio.wait_for(nobody(), 20)


async def nobody() -> None:
    """Returns when no connection is open."""
    while proxy.Egress._everywhere:
        await asyncio.sleep(0.01)


async def test_what_a_host_sends_keeps_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_timeout, "_SECONDS", 2.5)
    parts = [b"x"] * 4
    async with (
        origin(*parts, after=b"go", pause=0.8) as host,
        serving(f"tcp://good.test:{host.port}") as port,
    ):
        client = Client(port)
        assert b" 200 " in await asyncio.to_thread(client.connect, "good.test", host.port)
        client.socket.sendall(b"go")
        assert await asyncio.to_thread(client.rest) == b"x" * 4
        client.close()


async def test_what_was_sent_before_the_end_arrives() -> None:
    async with origin() as host, serving(f"tcp://good.test:{host.port}") as port:
        client = Client(port)
        assert b" 200 " in await asyncio.to_thread(client.connect, "good.test", host.port)
        await asyncio.to_thread(client.socket.sendall, bytes(4 << 20))
        client.socket.shutdown(1)
        await asyncio.to_thread(client.rest)
        client.close()
        assert len(host.text) == 4 << 20


async def test_names_are_those_of_the_resolver() -> None:
    names = Names()
    async with origin() as host, serving(f"tcp://*.test:{host.port}", lookup=names) as port:
        for text in ("A.Test", "a.test."):
            client = Client(port)
            assert b" 200 " in await asyncio.to_thread(client.connect, text, host.port)
            client.close()
        assert names.asked == ["a.test"] * 2
