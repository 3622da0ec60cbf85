"""Parts of the port proxy: redirects, header lists, and fairness to other tasks."""

import asyncio
import re

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.serving import Serve

from portico.gateways.sse.ports.header_filter import PortHeaders
from portico.gateways.sse.ports.http_exchange import Exchange
from portico.gateways.sse.ports.port_stream import PortStream
from portico.gateways.sse.ports.proxy_errors import PortFailure
from portico.gateways.sse.ports.redirects import rewrite_location
from portico.gateways.sse.settings import SseSettings

PREFIX = "/ports/token"


@pytest.mark.parametrize(
    ("value", "to"),
    [
        (b"/", "/"),
        (b"", "/a/b?c"),
        (b"?d", "/a/b?d"),
        (b"#e", "/a/b?c#e"),
        (b"d", "/a/d"),
        (b"./d/", "/a/d/"),
        (b"..", "/"),
        (b"../../../../d", "/d"),
        (b"/x/%2e%2E/.%2e/d/..", "/"),
        (b"/x//y", "/x//y"),
        (b"///evil.example/", "/evil.example/"),
        (b"/\\evil.example\t/ x", "/%5Cevil.example%09/%20x"),
        ("/größe".encode(), "/gr%C3%B6%C3%9Fe"),
        (b"http://localhost", "/"),
        (b"HTTPS://127.0.0.1:8000/d?e#f", "/d?e#f"),
        (b"//localhost/d", "/d"),
    ],
)
def test_a_redirect_leads_below_the_token(value: bytes, to: str) -> None:
    assert rewrite_location(value, "/a/b?c", PREFIX) == (PREFIX + to).encode()


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"//evil.example/",
            b"https://evil.example/",
            b"http://localhost@evil.example/",
            b"http:evil.example",
        ),
        *(b"javascript:alert(1)", b"data:text/html,x", b"http://localhost.evil.example/", b"http://[::1/"),
        *(b"ftp://localhost/", b"blob:null/x"),
    ],
)
def test_a_redirect_to_elsewhere_is_refused(value: bytes) -> None:
    with pytest.raises(PortFailure) as caught:
        rewrite_location(value, "/", PREFIX)
    assert caught.value.status == 502


@given(
    st.one_of(
        st.binary(max_size=40),
        st.lists(
            st.sampled_from(
                [b"/", b"\\", b".", b"..", b"%2e", b"%2F", b"a", b"?", b"#", b":", b"@", b"http:", b"\t"]
            )
        ).map(b"".join),
    )
)
def test_whatever_it_says_it_leads_nowhere_else(value: bytes) -> None:
    try:
        told = rewrite_location(value, "/a/b", PREFIX).decode()
    except PortFailure:
        return
    assert re.fullmatch(r"[!#-;=?-Z_a-z~%\[\]&'$]+", told)
    path = re.split(r"[?#]", told)[0]
    assert path.startswith(f"{PREFIX}/")
    assert not [one for one in path.split("/") if one.lower().replace("%2e", ".") in (".", "..")]


@pytest.mark.parametrize(
    "name", ["Cookie", "authorization", "access-control-allow-origin", "a b", "location"]
)
def test_an_operator_cannot_open_what_is_never_passed(name: str) -> None:
    with pytest.raises(ValidationError):
        SseSettings(port_response_headers=[name])
    with pytest.raises(ValidationError):
        SseSettings(port_request_headers=[name])


def test_what_an_operator_adds_passes() -> None:
    settings = SseSettings(port_response_headers=["X-Mine"])
    headers = PortHeaders((), settings.port_response_headers)
    given = [(b"x-mine", b"1"), (b"x-other", b"2"), (b"cache-control", b"No-Store")]
    told = dict(headers.outwards(given, "/", PREFIX))
    assert (told[b"x-mine"], told[b"cache-control"], b"x-other" in told) == (b"1", b"no-store", False)


class _Given:
    """A connection that has sent all of this, and no more."""

    def __init__(self, data: bytes) -> None:
        self._data = [data, b""]

    async def read(self) -> bytes:
        return self._data.pop(0)

    async def write(self, data: bytes) -> None:
        pass


async def test_a_body_of_many_small_pieces_lets_others_have_their_turn() -> None:
    count = 20_000
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * count + b"0\r\n\r\n"
    exchange = Exchange(PortStream(_Given(answer)))  # type: ignore[arg-type]
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    await exchange.ask("GET", "/", [(b"host", b"x")])
    await exchange.send(b"", more=False)
    assert (await exchange.head(30)).status == 200
    working = asyncio.create_task(other())
    assert sum([len(piece) async for piece in exchange.body(30)]) == count
    working.cancel()
    assert turns > count // 512


async def test_a_gateway_that_stops_ends_what_it_forwards(serve: Serve) -> None:
    http = await serve()
    box = f"/sandboxes/{(await http.post('/sandboxes', json={})).json()['sandbox_id']}"
    server = (
        "import socket, threading\n"
        "server, kept = socket.create_server(('127.0.0.1', 8000)), []\n"
        "def serve():\n"
        "    while True:\n"
        "        peer = server.accept()[0]\n"
        "        kept.append(peer)\n"
        "        if b'begins' in peer.recv(9999): peer.sendall(b'HTTP/1.1 200 OK\\r\\n\\r\\nbegun')\n"
        "threading.Thread(target=serve, daemon=True).start()"
    )
    assert (await http.post(f"{box}/cells", json={"code": server})).json()["error"] is None
    path = (await http.post(f"{box}/ports/8000", json={})).json()["path"]
    waiting = asyncio.create_task(http.get(f"{path}waits"))
    async with http.stream("GET", f"{path}begins") as begun:
        pieces = begun.aiter_raw()
        assert await anext(pieces) == b"begun"
        http.site.stop()  # type: ignore[attr-defined]
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(pieces)
    answer = await asyncio.wait_for(waiting, 30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "DRAINING")
