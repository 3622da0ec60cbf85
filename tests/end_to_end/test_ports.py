"""Servers in sandboxes, correct and hostile, through a real gateway process."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import websockets
from support import hostile_server
from support.deployment import SCRIPTED, Deployment
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

pytestmark = pytest.mark.asyncio(loop_scope="module")
SERVER = Path(hostile_server.__file__).read_bytes()
SECONDS = 1.5  # the gateway's timeout for an answer, and for each further part


@dataclass
class Place:
    """A gateway, the path of a port, and the sandbox's own path."""

    deployment: Deployment
    http: httpx.AsyncClient
    path: str
    box: str

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self.deployment.http_port}{self.path}socket"

    async def file(self, name: str) -> bytes:
        return (await self.http.get(f"{self.box}/files/content", params={"path": name})).content


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    seconds = str(SECONDS)
    env = {
        "PORTICO_SSE_PORT_ANSWER_SECONDS": seconds,
        "PORTICO_SSE_PORT_IDLE_SECONDS": seconds,
        "PORTICO_SSE_PORT_MESSAGE_BYTES": str(1 << 20),
        "PORTICO_SSE_PORT_REQUEST_HEADERS": '["X-Mine"]',
    }
    started = Deployment(SCRIPTED, tmp_path_factory.mktemp("ports"), env=env)
    yield started
    started.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(own: Deployment) -> AsyncIterator[Place]:
    async with httpx.AsyncClient(base_url=own.url, timeout=60) as http:
        made = (await http.post("/sandboxes", json={})).json()
        box = f"/sandboxes/{made['sandbox_id']}"
        await http.put(f"{box}/files/content", params={"path": "s.py"}, content=SERVER)
        await http.post(f"{box}/processes", json={"command": "exec python3 s.py"})
        path = (await http.post(f"{box}/ports/8000", json={})).json()["path"]
        async with asyncio.timeout(60):
            while (await http.get(path)).status_code == 502:
                await asyncio.sleep(0.05)
        yield Place(own, http, path, box)
        # Errors of code inside a sandbox are no errors of the gateway.
        assert "Traceback" not in own.log.read_text()
        assert "ASGI" not in own.log.read_text()


async def test_of_a_request_only_what_is_listed_goes_in(place: Place) -> None:
    secrets = {
        "authorization": "Bearer mine",
        "cookie": "c=d",
        "x-api-key": "k",
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-access-token": "t",
        "x-goog-iap-jwt-assertion": "j",
        "cf-access-jwt-assertion": "j",
        "forwarded": "for=10.0.0.1",
        "x-request-id": "r",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "referer": "https://private.example/page",
        "origin": "https://private.example",
        "proxy-authorization": "Basic x",
        "sec-fetch-site": "none",
    }
    passed = {"accept-language": "eo", "if-none-match": '"1"', "x-mine": "m", "last-event-id": "7"}
    told = (await place.http.get(f"{place.path}a%2Fb?c=d", headers={**secrets, **passed})).json()
    assert told["line"] == "GET /a%2Fb?c=d HTTP/1.1"
    names = {line.partition(":")[0].lower() for line in told["head"]}
    own = {"host", "connection", "x-forwarded-prefix", "accept", "accept-encoding", "user-agent"}
    assert names == own | set(passed)


async def test_of_an_answer_only_what_is_listed_comes_out(place: Place) -> None:
    answer = await place.http.get(f"{place.path}acts")
    assert answer.text == "ok"
    walls = {"content-security-policy", "referrer-policy", "x-content-type-options", "cache-control", "vary"}
    assert set(answer.headers) == walls | {"etag", "content-type", "content-length"}
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["content-security-policy"].startswith("sandbox ")


@pytest.mark.parametrize(
    "path",
    [
        *("two-framings", "two-lengths", "two-types", "length-of-words", "length-beyond", "old-chunks"),
        *("gzip-framing", "switches", "status", "status-of-proxies", "garbage", "nothing", "half-a-head"),
        *("carriage-return", "control", "large-head", "many-interim", "other-place", "other-place-short"),
    ],
)
async def test_an_answer_that_breaks_a_rule_is_a_typed_502(place: Place, path: str) -> None:
    answer = await place.http.get(f"{place.path}{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "PORT_PROTOCOL")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["hangs", "drips"])
async def test_a_server_that_never_answers_is_a_typed_504(place: Place, path: str) -> None:
    answer = await place.http.get(f"{place.path}{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "PORT_TIMEOUT")


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("interim", 200, "ok"),
        ("no-content", 204, ""),
        ("not-modified", 304, ""),
        ("too-much", 200, "hello"),
        ("old", 200, "until the end"),
        ("chunks", 200, "ok!"),
    ],
)
async def test_bodies_are_what_their_framing_says(place: Place, path: str, status: int, body: str) -> None:
    answer = await place.http.get(f"{place.path}{path}")
    assert (answer.status_code, answer.text) == (status, body)
    assert "x-accel-redirect" not in answer.headers
    head = await place.http.head(f"{place.path}{path}")
    assert (head.status_code, head.text) == (status, "")


@pytest.mark.parametrize(
    "path", ["short", "short-chunks", "bad-chunks", "long-chunk", "falls-silent", "resets"]
)
async def test_a_body_that_breaks_off_never_ends_cleanly(place: Place, path: str) -> None:
    async with place.http.stream("GET", f"{place.path}{path}") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("climbs", "b?c=d#e"),
        ("backslash", "%5Cevil.example/"),
        ("own-name", "there?a"),
    ],
)
async def test_redirects_stay_below_the_token(place: Place, path: str, to: str) -> None:
    answer = await place.http.get(f"{place.path}{path}")
    assert (answer.status_code, answer.headers["location"]) == (302, place.path + to)


async def test_a_large_body_goes_in_and_methods_are_limited(place: Place) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 100_000

    told = await place.http.post(f"{place.path}x", content=pieces(), headers={"content-length": "3000000"})
    assert told.json()["body"] == 3_000_000
    assert (await place.http.request("TRACE", place.path)).status_code == 405
    unknown = await place.http.get("/ports/nonsense/")
    assert unknown.status_code == 404
    to = await place.http.get(f"{place.path.rstrip('/')}?a=b/c")
    assert (to.status_code, to.headers["location"]) == (307, f"{place.path}?a=b/c")


async def test_events_come_as_they_are_sent(place: Place) -> None:
    loop = asyncio.get_running_loop()
    async with place.http.stream("GET", f"{place.path}events") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        times = [loop.time() async for _ in answer.aiter_raw()]
    assert len(times) == 3
    assert times[-1] - times[0] > 0.5


async def test_a_slow_reader_slows_the_server_and_one_that_leaves_ends_it(place: Place) -> None:
    gateway = place.deployment.child("portico.gateways")
    before = gateway.memory_info().rss
    reader, writer = await asyncio.open_connection("127.0.0.1", place.deployment.http_port)
    writer.write(f"GET {place.path}endless HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    sent = -1
    async with asyncio.timeout(60):
        while sent != (sent := int(await place.file("sent") or 0)):
            await asyncio.sleep(1)
    assert 0 < sent < 64 << 20
    assert gateway.memory_info().rss - before < 64 << 20
    writer.close()
    async with asyncio.timeout(60):
        while not (await place.file("sent")).endswith(b"gone"):
            await asyncio.sleep(0.1)


async def test_only_pages_of_a_sandbox_may_read(place: Place) -> None:
    own = {"origin": "null"}
    answer = await place.http.get(f"{place.path}acts", headers=own)
    assert answer.headers["access-control-allow-origin"] == "null"
    assert "access-control-allow-credentials" not in answer.headers
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    leave = await place.http.options(f"{place.path}x", headers={**own, **asked})
    assert (leave.status_code, leave.headers["access-control-allow-headers"]) == (204, "content-type")
    leave = await place.http.options(f"{place.path}x", headers={"origin": "https://evil.example", **asked})
    assert "access-control-allow-origin" not in leave.headers


async def test_a_websocket_carries_messages_both_ways(place: Place) -> None:
    secrets = {"authorization": "Bearer mine", "cookie": "c=d", "x-api-key": "k", "origin": "null"}
    offered = [Subprotocol("one"), Subprotocol("two")]
    async with connect(
        f"{place.socket_url}?a=b", additional_headers=secrets, subprotocols=offered, max_size=None
    ) as opened:
        assert opened.subprotocol == "two"
        assert opened.response is not None
        assert "set-cookie" not in opened.response.headers
        assert "sec-websocket-extensions" not in opened.response.headers
        told = json.loads(await opened.recv())
        assert told[0] == "GET /socket?a=b HTTP/1.1"
        names = {line.partition(":")[0].lower() for line in told[1:]}
        own = {"host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version"}
        assert names == own | {"sec-websocket-protocol", "user-agent", "x-forwarded-prefix"}
        assert await opened.recv() == "pong are you there"
        for message in ("", "größe", b"\x00\xff" * 200_000, b"x" * (1 << 20)):
            await opened.send(message)
            assert await opened.recv() == message
        await opened.close(4001, "done")
    async with asyncio.timeout(30):
        while await place.file("closed") != b"\x0f\xa1done":
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("masks", 1014),
        ("reserved", 1014),
        ("opcode", 1014),
        ("continues", 1014),
        ("not-text", 1007),
        ("long-ping", 1014),
        ("too-big", 1009),
        ("too-big-in-pieces", 1009),
        ("bad-close", 1014),
        ("closes", 4321),
        ("breaks-off", 1014),
    ],
)
async def test_how_a_websocket_ends_inside_is_told(place: Place, path: str, code: int) -> None:
    async with connect(f"{place.socket_url}/{path}", max_size=None) as opened:
        with pytest.raises(websockets.ConnectionClosed):
            await asyncio.wait_for(opened.recv(), 60)
        assert (opened.close_code, opened.close_reason) == (code, "enough" if code == 4321 else "")


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("refuses", 403, "PORT_HANDSHAKE"),
        ("wrong-key", 502, "PORT_PROTOCOL"),
        ("deflates", 502, "PORT_PROTOCOL"),
        ("other-protocol", 502, "PORT_PROTOCOL"),
        ("hangs", 504, "PORT_TIMEOUT"),
    ],
)
async def test_a_websocket_that_is_refused_is_an_http_error(
    place: Place, path: str, status: int, word: str
) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        await connect(f"{place.socket_url}/{path}")
    response = caught.value.response
    assert (response.status_code, json.loads(response.body or b"")["error"]["code"]) == (status, word)
    assert "set-cookie" not in response.headers


async def test_a_server_that_takes_no_messages_is_given_up(place: Place) -> None:
    async with connect(f"{place.socket_url}/deaf", ping_interval=None) as opened:
        sending = asyncio.create_task(_send_on(opened))
        await asyncio.wait_for(opened.wait_closed(), 60)
        await asyncio.wait({sending})
        assert isinstance(sending.exception(), websockets.ConnectionClosed)
        assert opened.close_code == 1014


async def _send_on(opened: ClientConnection) -> None:
    while True:
        await opened.send(b"x" * (1 << 20))


async def test_websockets_are_bounded(place: Place) -> None:
    async with connect(f"{place.socket_url}", max_size=None) as opened:
        await opened.send(b"x" * ((1 << 20) + 1))
        await asyncio.wait_for(opened.wait_closed(), 60)
        assert opened.close_code == 1009
    async with connect(f"{place.socket_url}/tiny", max_size=None) as opened:
        assert await asyncio.wait_for(opened.recv(), 60) == "x"
    gateway = place.deployment.child("portico.gateways")
    before = gateway.memory_info().rss
    async with connect(f"{place.socket_url}/floods", max_size=None) as opened:
        await asyncio.sleep(3)
        assert gateway.memory_info().rss - before < 32 << 20
        assert await asyncio.wait_for(place.http.get("/liveness"), 30)
