"""Plain HTTP through a sandbox's proxy, over real sockets."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from support.egress import LOOPBACK, Client, Names, exchange, origin, serving

from portico.sandbox.egress import http_requests, idle_timeout, proxy
from portico.sandbox.egress.refusal import RequestRefused
from portico.sandbox.spec import NetworkBounds


def ask(target: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {target} HTTP/{version}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


async def answer(port: int, request: bytes) -> str:
    return (await asyncio.to_thread(exchange, port, request)).decode("latin-1")


async def test_a_request_reaches_its_host_written_anew() -> None:
    async with origin() as host, serving(f"good.test:{host.port}") as port:
        where = f"good.test:{host.port}"
        request = ask(
            f"http://GOOD.test.:{host.port}/a?b=c%20d", f"Host: {where}", "Accept: x", "X-Odd:  a\tb ",
            "Proxy-Authorization: secret", "Proxy-Connection: keep-alive", "Connection: X-Hop, close",
            "X-Hop: 1", "Keep-Alive: 5", "TE: trailers", "Trailer: X-Late",
            "Upgrade: h2c", "Cookie: a", "Cookie: b",
        )  # fmt: skip
        got = await answer(port, request)
        assert got.startswith("HTTP/1.1 200 ")
        assert got.endswith("\r\n\r\nok")
        assert "connection: close" in got.lower()
        assert host.text == (
            f"GET /a?b=c%20d HTTP/1.1\r\nHost: {where}\r\nAccept: x\r\nX-Odd: a\tb\r\n"
            "Cookie: a\r\nCookie: b\r\nConnection: close\r\n\r\n"
        )


async def test_bodies_pass_both_ways() -> None:
    big = bytes(range(256)) * 8_192 + b"end."  # 2 MiB
    body = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(big) + big

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"end."

    async with (
        origin(body, after=b"end.") as host,
        serving(f"good.test:{host.port}") as port,
        httpx.AsyncClient(proxy=f"http://127.0.0.1:{port}") as client,
    ):
        url = f"http://good.test:{host.port}/x"
        assert (await client.post(url, content=big)).content == big
        assert host.got[0].endswith(b"\r\n\r\n" + big)
        assert (await client.put(url, content=pieces())).content == big
        assert host.got[1].lower().count(b"transfer-encoding: chunked") == 1
        assert host.got[1].partition(b"\r\n\r\n")[2].startswith(b"3\r\none\r\n4\r\nend.")


async def test_a_host_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_timeout, "_HALF_SECONDS", 0.2)  # neither side has closed
    head = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 30_000, b"y" * 20_000 + b"\r\ncontent-length: 2\r\n\r\no", b"k"
    async with origin(*head, pause=0.3) as host, serving(f"good.test:{host.port}") as port:
        where = f"good.test:{host.port}"
        assert (await answer(port, ask(f"http://{where}/", f"Host: {where}"))).endswith("ok")


async def test_a_head_alone_may_be_asked_for() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"
    async with origin(head) as host, serving(f"good.test:{host.port}") as port:
        where = f"good.test:{host.port}"
        got = await answer(port, ask(f"http://{where}/", f"Host: {where}", method="HEAD"))
        assert got.lower().endswith("content-length: 7\r\nconnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Late: 1\r\n\r\n", b"ok"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            b"ok",
        ),
        (b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 204 No\r\n\r\n", b""),
        (b"HTTP/1.1 304 Same\r\ncontent-length: 7\r\n\r\n", b""),
        (b"HTTP/1.0 200\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok and more", b"ok"),
    ],
)
async def test_responses_end_where_they_end(sent: bytes, body: bytes) -> None:
    async with (
        origin(sent) as host,
        serving(f"good.test:{host.port}") as port,
        httpx.AsyncClient(proxy=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        response = await client.get(f"http://good.test:{host.port}/")
        assert response.content == body
        assert response.headers["connection"] == "close"


async def test_a_client_may_ask_whether_to_go_on() -> None:
    async with origin(after=b"body") as host, serving(f"good.test:{host.port}") as port:
        where = f"good.test:{host.port}"

        def talk() -> bytes:
            client = Client(port)
            expecting = ask(
                f"http://{where}/",
                f"Host: {where}",
                "Content-Length: 4",
                "Expect: 100-continue",
                method="PUT",
            )
            client.socket.sendall(expecting)
            assert client.head().startswith(b"HTTP/1.1 100 ")
            client.socket.sendall(b"body")
            rest = client.rest()
            client.close()
            return rest

        assert (await asyncio.to_thread(talk)).startswith(b"HTTP/1.1 200 ")
        assert "expect" not in host.text.lower()
        assert host.text.endswith("\r\n\r\nbody")


async def test_an_old_client_is_served() -> None:
    async with origin() as host, serving(f"good.test:{host.port}") as port:
        got = await answer(
            port, ask(f"http://good.test:{host.port}", "Connection: keep-alive", version="1.0")
        )
        assert got.endswith("ok")
        assert f"GET / HTTP/1.1\r\nHost: good.test:{host.port}\r\n" in host.text


WHERE = "good.test:{port}"
SMUGGLED = {
    "another host": ask("http://{where}/", "Host: evil.test"),
    "another port": ask("http://{where}/", "Host: good.test:1"),
    "no port": ask("http://{where}/", "Host: good.test"),
    "two hosts": ask("http://{where}/", "Host: {where}", "Host: evil.test"),
    "one host twice": ask("http://{where}/", "Host: {where}", "host: {where}"),
    "no host": ask("http://{where}/"),
    "an empty host": ask("http://{where}/", "Host:"),
    "a user in the host": ask("http://{where}/", "Host: x@{where}"),
    "a bare LF in the head": ask("http://{where}/", "Host: {where}", "A: b\nHost: evil.test"),
    "only bare LFs": b"GET http://{where}/ HTTP/1.1\nHost: {where}\n\n\r\n\r\n",
    "a bare LF in the first line": b"GET http://{where}/ HTTP/1.1\nHost:\tevil.test\r\nHost: {where}\r\n\r\n",
    "a second request behind a bare LF": b"GET http://{where}/ HTTP/1.1\r\nHost: {where}\r\nA: b\n\n"
    b"GET /admin HTTP/1.1\nHost: evil.test\r\n\r\n",
    "a bare CR": b"GET http://{where}/ HTTP/1.1\r\nHost: {where}\r\nA: b\rHost: evil.test\r\n\r\n",
    "a NUL": b"GET http://{where}/ HTTP/1.1\r\nHost: {where}\r\nA: b\0c\r\n\r\n",
    "a control character": b"GET http://{where}/ HTTP/1.1\r\nHost: {where}\r\nA: b\x0bc\r\n\r\n",
    "another one": b"GET http://{where}/ HTTP/1.1\r\nHost: {where}\r\nA: b\x01c\r\n\r\n",
    "a folded line": ask("http://{where}/", "Host: {where}", "A: b", " Host: evil.test"),
    "a folded host": ask("http://{where}/", "Host: {where}", "\tevil.test"),
    "a space before a colon": ask("http://{where}/", "Host: {where}", "Host : evil.test"),
    "a tab before a colon": ask("http://{where}/", "Host: {where}", "Content-Length\t: 5"),
    "a line without a colon": ask("http://{where}/", "Host: {where}", "evil"),
    "a line without a name": ask("http://{where}/", "Host: {where}", ": evil"),
    "a name that is no token": ask("http://{where}/", "Host: {where}", "a(b): evil"),
    "two lengths": ask("http://{where}/", "Host: {where}", "Content-Length: 0", "Content-Length: 5"),
    "one length twice": ask("http://{where}/", "Host: {where}", "Content-Length: 0", "Content-Length: 0"),
    "a list of lengths": ask("http://{where}/", "Host: {where}", "Content-Length: 0, 5"),
    "a signed length": ask("http://{where}/", "Host: {where}", "Content-Length: +5"),
    "a length and chunks": ask(
        "http://{where}/", "Host: {where}", "Content-Length: 5", "Transfer-Encoding: chunked"
    ),
    "chunks twice": ask(
        "http://{where}/", "Host: {where}", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"
    ),
    "chunks and more": ask("http://{where}/", "Host: {where}", "Transfer-Encoding: gzip, chunked"),
    "an unknown coding": ask("http://{where}/", "Host: {where}", "Transfer-Encoding: xchunked"),
    "chunks in HTTP/1.0": ask(
        "http://{where}/", "Host: {where}", "Transfer-Encoding: chunked", version="1.0"
    ),
    "a host of the connection": ask("http://{where}/", "Host: {where}", "Connection: close, Host"),
    "a length of the connection": ask(
        "http://{where}/", "Host: {where}", "Content-Length: 3", "Connection: content-length"
    ),
    "HTTP/0.9": b"GET http://{where}/\r\n\r\n",
    "HTTP/2.0": ask("http://{where}/", "Host: {where}", version="2.0"),
    "HTTP/1.2": ask("http://{where}/", "Host: {where}", version="1.2"),
    "HTTP/1.1 and more": ask("http://{where}/", "Host: {where}", version="1.1 x"),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an empty line first": b"\r\n" + ask("http://{where}/", "Host: {where}"),
    "two spaces": ask(" http://{where}/", "Host: {where}"),
    "a space in the target": ask("http://{where}/ x", "Host: {where}"),
    "a tab in the target": ask("http://{where}/\tx", "Host: {where}"),
    "a path": ask("/", "Host: {where}"),
    "an asterisk": ask("*", "Host: {where}", method="OPTIONS"),
    "https": ask("https://{where}/", "Host: {where}"),
    "a file": ask("file:///etc/passwd", "Host: {where}"),
    "no scheme": ask("//{where}/", "Host: {where}"),
    "a user": ask("http://a:b@{where}/", "Host: {where}"),
    "a user that looks like a host": ask("http://{where}@evil.test/", "Host: {where}"),
    "a backslash": ask("http://evil.test\\@{where}/", "Host: {where}"),
    "a fragment": ask("http://{where}/#x", "Host: {where}"),
    "an escaped host": ask("http://%67ood.test/", "Host: good.test"),
    "a host in other letters": ask("http://good\xff.test/", "Host: good.test"),
    "an empty port": ask("http://good.test:/", "Host: good.test"),
    "port 0": ask("http://good.test:0/", "Host: good.test:0"),
    "a port too large": ask("http://good.test:65616/", "Host: good.test"),
    "a port with a sign": ask("http://good.test:+80/", "Host: good.test"),
    "a zone": ask("http://[fe80::1%25lo]/", "Host: [fe80::1%25lo]"),
    "a tunnel without a port": ask("good.test", "Host: good.test", method="CONNECT"),
    "a tunnel with a path": ask("{where}/x", "Host: {where}", method="CONNECT"),
    "a tunnel by URL": ask("http://{where}/", "Host: {where}", method="CONNECT"),
    "a tunnel with another host": ask("{where}", "Host: evil.test", method="CONNECT"),
    "a tunnel with another port": ask("{where}", "Host: good.test:1", method="CONNECT"),
    "a tunnel with a body": ask("{where}", "Host: {where}", "Content-Length: 5", method="CONNECT") + b"GET /",
    "a tunnel with chunks": ask("{where}", "Host: {where}", "Transfer-Encoding: chunked", method="CONNECT"),
}


@pytest.mark.parametrize("case", SMUGGLED)
async def test_what_two_parsers_could_read_differently_is_refused(case: str) -> None:
    async with origin() as host, serving(f"good.test:{host.port}", f"tcp://good.test:{host.port}") as port:
        request = SMUGGLED[case].replace(b"{where}", f"good.test:{host.port}".encode())
        got = await answer(port, request)
        assert got[:10] in ("HTTP/1.1 4", "HTTP/1.1 5"), got
        assert got.partition(" ")[2][:3] in ("400", "501"), got
        assert "content-type: text/plain" in got
        assert host.got == []


async def test_one_request_of_a_connection_is_carried() -> None:
    async with origin() as host, serving(f"good.test:{host.port}") as port:
        where = f"good.test:{host.port}"
        one = ask(f"http://{where}/one", f"Host: {where}")
        two = ask(f"http://{where}/two", f"Host: {where}")
        evil = ask("/two", "Host: evil.test")
        for more in (two, evil, b"GET / HTTP/1.1\nHost: evil.test\n\n"):
            got = await answer(port, one + more)
            assert got.count("HTTP/1.1 ") == 1
        with_body = (
            ask(f"http://{where}/", f"Host: {where}", "Content-Length: 2", method="POST") + b"ab" + evil
        )
        await answer(port, with_body)
        chunks = ask(f"http://{where}/", f"Host: {where}", "Transfer-Encoding: chunked", method="POST")
        await answer(port, chunks + b"2;x=y\r\nab\r\n0\r\nHost: evil.test\r\n\r\n" + evil)
        assert "two" not in host.text
        assert "evil" not in host.text
        assert host.got[3].endswith(b"\r\n\r\nab")
        assert host.got[4].endswith(b"\r\n\r\n2\r\nab\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "chunk", [b"2\nab\n0\n\n\r\n", b"+2\r\nab\r\n0\r\n\r\n", b"2\r\nabc\r\n0\r\n\r\n", b"-1\r\n"]
)
async def test_chunks_have_one_form(chunk: bytes) -> None:
    async with origin(after=b"the end") as host, serving(f"good.test:{host.port}") as port:
        where = f"good.test:{host.port}"
        head = ask(f"http://{where}/", f"Host: {where}", "Transfer-Encoding: chunked", method="POST")
        await asyncio.wait_for(asyncio.to_thread(exchange, port, head + chunk), 20)
        assert not host.text.endswith("0\r\n\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: x\r\n\r\n",
    ],
)  # fmt: skip
async def test_a_host_that_breaks_the_protocol_ends_its_connection(sent: bytes) -> None:
    async with origin(sent) as host, serving(f"good.test:{host.port}") as port:
        where = f"good.test:{host.port}"
        got = await asyncio.wait_for(answer(port, ask(f"http://{where}/", f"Host: {where}")), 20)
        assert "200" not in got
        assert "101" not in got


async def test_each_refusal_says_what_to_do() -> None:
    bounds = NetworkBounds(
        hosts=("*.test", "half.test:82"),
        deny=("denied.test", "half.test:81", "127.0.0.9"),
        open=LOOPBACK.open,
    )
    names = Names(
        private_test=["10.0.0.1"], rebound_test=["127.0.0.1", "192.168.0.1"], denied2_test=["127.0.0.9"]
    )
    hosts = (
        "good.test", "*.sub.test", "denied.test", "half.test:81", "half.test:82", "private.test",
        "rebound.test", "denied2.test", "foreign.example", "10.0.0.2",
    )  # fmt: skip
    async with serving(*hosts, bounds=bounds, lookup=names) as port:

        async def refused(url: str) -> str:
            got = await answer(port, ask(url, f"Host: {url.split('/')[2]}"))
            assert got.startswith("HTTP/1.1 403 "), got
            reason = got.split("\r\n")[0][13:]
            assert got.partition("\r\n\r\n")[2].startswith(reason)  # for clients that show only one of them
            return got

        got = await refused("http://other.test/")
        assert "other.test is not among this sandbox's allow_hosts" in got
        assert "good.test, *.sub.test" in got
        assert "Create the sandbox with other.test in allow_hosts" in got
        assert "allow no plain HTTP to good.test:8080" in (got := await refused("http://good.test:8080/"))
        assert "tcp://good.test:8080" in got
        assert "allow no plain HTTP" in await refused("http://good.test:443/")
        assert "denied by the operator" in await refused("http://denied.test/")
        assert "denied by the operator" in await refused("http://half.test:81/")
        assert "an address that the operator denies" in await refused("http://denied2.test/")
        assert "not among the hosts that the operator allows" in await refused("http://foreign.example/")
        assert "not among the hosts that the operator allows" in await refused("http://10.0.0.2/")
        assert "not at a public address" in await refused("http://private.test/")
        assert "not at a public address" in await refused("http://rebound.test/")
        assert "allow_hosts" in await refused("http://sub.test/")
        assert names.asked == [
            "denied2.test",
            "private.test",
            "rebound.test",
        ]  # refused names are not resolved
        got = await answer(port, ask("http://half.test:82/", "Host: half.test:82"))
        assert got.startswith("HTTP/1.1 502 half.test:82 does not answer")


def test_what_is_told_fits_into_a_status_line() -> None:
    told = RequestRefused(400, "a\r\nX: \x00b\xe4" + "c" * 100_000, "d\r\n\r\ne").response()
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 a??X: ?b?ccc")
    assert head.count(b"\r\n") == 3
    assert len(told) < 4_000
    assert body.endswith(b"\nd????e\n")
    assert f"content-length: {len(body)}".encode() in head


async def test_operators_lists_are_not_widened_by_callers() -> None:
    async with origin() as host:
        where = f"good.test:{host.port}"
        request = ask(f"http://{where}/", f"Host: {where}")
        for bounds, allowed in (
            (LOOPBACK, True),
            (NetworkBounds(), False),  # the operator has not opened loopback
            (NetworkBounds(hosts=(f"tcp://{where}",), open=LOOPBACK.open), True),
            (NetworkBounds(hosts=("good.test",), open=LOOPBACK.open), False),
            (NetworkBounds(deny=("127.0.0.0/16",), open=LOOPBACK.open), False),
            (NetworkBounds(deny=("*.test",), open=LOOPBACK.open), False),
        ):
            async with serving(where, "*.test", "127.0.0.1", bounds=bounds) as port:
                assert ("200" in (await answer(port, request))[:13]) is allowed
        assert len(host.got) == 2


async def test_a_head_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with origin() as host, serving(f"good.test:{host.port}") as port:
        where = f"good.test:{host.port}"
        fits = ask(f"http://{where}/", f"Host: {where}", "A: " + "b" * (http_requests.MAX_HEAD - 1_000))
        assert (await answer(port, fits)).startswith("HTTP/1.1 200 ")
        for head in (
            ask(f"http://{where}/", f"Host: {where}", "A: " + "b" * http_requests.MAX_HEAD),
            b"a" * http_requests.MAX_HEAD * 2,
        ):
            assert (await answer(port, head)).startswith("HTTP/1.1 431 ")
        monkeypatch.setattr(proxy, "_HEAD_SECONDS", 0.3)
        for beginning in (b"", b"GET ", fits[:-2]):
            assert (await answer(port, beginning)).startswith("HTTP/1.1 408 ")
        assert len(host.got) == 1


async def test_a_body_may_not_stop_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_timeout, "_SECONDS", 0.3)
    async with origin(b"") as host, serving(f"good.test:{host.port}") as port:
        where = f"good.test:{host.port}"
        for request in (
            ask(f"http://{where}/", f"Host: {where}"),  # the host sends nothing
            ask(f"http://{where}/", f"Host: {where}", "Content-Length: 5", method="POST") + b"ab",
        ):
            assert await asyncio.wait_for(answer(port, request), 20) == ""
