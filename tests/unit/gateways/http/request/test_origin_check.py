"""No page of another site reaches any route of any gateway, by HTTP or WebSocket; programs are not
affected.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
import websockets
from a2a.server.routes import create_rest_routes
from support.identity import guarded_core
from support.serving import running_core, running_site, settings_in

from portico.agent import AgentApp, Context
from portico.client import Client
from portico.gateways.__main__ import make_site
from portico.gateways.a2a.cards import CARD_PATH, DEFAULT_PATH
from portico.gateways.a2a.request_handler import A2aRequestHandler
from portico.gateways.gateway_registry import GATEWAYS
from portico.gateways.http.request import origin_check
from portico.gateways.http.settings import HttpSettings
from portico.gateways.http.site import METRICS, GatewaySite
from portico.gateways.mcp.settings import PATH as MCP_PATH
from portico.gateways.openai.app import PREFIXES
from portico.gateways.openai.app import create_app as openai_app
from portico.gateways.openai.settings import OpenAiSettings
from portico.gateways.sse.app import SseGateway
from portico.gateways.sse.app import create_app as sse_app
from portico.gateways.sse.settings import SseSettings

HOST = "127.0.0.1:8090"
PORT_PATH = "/ports/token/page"  # a signed path is itself the credential
Route = tuple[str, str]  # a method, or WEBSOCKET, and a path
Answer = tuple[int, str]  # a status, and the error's code


def routed(app: Any) -> set[Route]:
    """Returns the routes of an application's router, and those that only its document names."""
    found = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    for route in app.routes:
        many = getattr(route, "effective_route_contexts", None)
        for one in [route] if many is None else many():
            path = one.path or one.original_route.path  # a WebSocket's path is on the original route only
            found |= {(method, path) for method in one.methods or ["WEBSOCKET"]}
    return found


def of_sse() -> set[Route]:
    own = {("POST", "/an/agents/own"), ("GET", "/an/agents/own"), ("POST", "/agents/a/endpoints/x")}
    return routed(sse_app(SseSettings())) | own | {("WEBSOCKET", "/nowhere")}


def of_openai() -> set[Route]:
    sockets = {("WEBSOCKET", f"{prefix}/responses") for prefix in PREFIXES}
    again = {(method, path.replace(*PREFIXES, 1)) for method, path in routed(openai_app(OpenAiSettings()))}
    return routed(openai_app(OpenAiSettings())) | sockets | again


def of_a2a() -> set[Route]:
    rest = {
        (method, getattr(route, "path", ""))
        for route in create_rest_routes(
            A2aRequestHandler(Mock(), Mock(), Mock(), Mock()), enable_v0_3_compat=True
        )
        for method in getattr(route, "methods", None) or ()
    }
    whole = {("POST", ""), *rest}
    below = {(method, f"{DEFAULT_PATH}{path}") for method, path in whole} | {("GET", CARD_PATH)}
    return below | {(method, f"/agents/a{path}") for method, path in below}


def of_mcp() -> set[Route]:
    return {(method, MCP_PATH) for method in ("GET", "POST", "DELETE", "WEBSOCKET")}


TABLES: Mapping[str, Callable[[], set[Route]]] = {
    "a2a": of_a2a,
    "mcp": of_mcp,
    "openai": of_openai,
    "sse": of_sse,
}
BESIDE = {("GET", METRICS), ("GET", PORT_PATH), ("WEBSOCKET", PORT_PATH)}
UNSEEN: Any = SimpleNamespace(seen=False)  # normally created by the lifespan
FORM: list[tuple[str, str]] = []
PICTURE = [("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")]
FRAME = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")]
LINK = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]
SAFE = ("GET", "HEAD", "OPTIONS")


async def asked(site: GatewaySite, route: Route, headers: Iterable[tuple[str, str]]) -> Answer:
    """Returns the site's answer. Its gateways are not opened: one that is reached raises."""
    method, path = route
    kind = "websocket" if method == "WEBSOCKET" else "http"
    scope = {
        "type": kind,
        "method": method,
        "path": re.sub(r"\{.*?\}", "x", path),
        "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
        "state": {},
    }
    if kind == "websocket":
        del scope["method"]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": f"{kind}.connect" if kind == "websocket" else "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    site._requests = UNSEEN
    site._auth._on = False  # the core's answer
    await site(scope, receive, send)
    told = json.loads(sent[1]["body"]) if sent[1].get("body") else {"error": {"code": ""}}
    return sent[0]["status"], told["error"]["code"]


@pytest.fixture(scope="module")
def site() -> GatewaySite:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("portico.gateways.__main__._log", lambda settings: None)
        return make_site("all", {"metrics": "true"}, ["127.0.0.1"])


def test_every_gateway_has_a_table() -> None:
    assert set(TABLES) == set(GATEWAYS)
    for table in TABLES.values():
        assert len(table()) > 2
    assert ("WEBSOCKET", "/sandboxes/{sandbox_id}/terminal") in of_sse()
    assert ("POST", "/process") in of_sse()
    assert ("POST", "/v1/chat/completions") in of_openai()


@pytest.mark.parametrize("gateway", TABLES)
async def test_no_route_answers_a_foreign_page(site: GatewaySite, gateway: str) -> None:
    for route in sorted(TABLES[gateway]() | BESIDE):
        for host in ("evil.example", "evil.example:8090", "localhost.evil.example:8090", ""):
            headers = [("host", host)] if host else []
            assert await asked(site, route, headers) == (421, "HOST_NOT_ALLOWED"), (route, host)
            # Headers that a page sets itself, or that a proxy adds, change nothing.
            claims = [
                ("origin", f"http://{host}"),
                ("sec-fetch-site", "same-origin"),
                ("x-forwarded-host", HOST),
            ]
            assert (await asked(site, route, headers + claims))[0] == 421, (route, host)
        if route[1].startswith("/ports/"):
            continue
        for origin in (
            "https://evil.example",
            "null",
            "file://",
            "http://127.0.0.1:3000",
            "http://localhost:8090",
        ):
            for more in ([], [("sec-fetch-site", "same-origin"), ("x-forwarded-host", origin[7:])]):
                told = await asked(site, route, [("host", HOST), ("origin", origin), *more])
                assert told == (403, "ORIGIN_NOT_ALLOWED"), (route, origin)
        for where in ("cross-site", "same-site", "unheard-of"):
            for how in (FORM, PICTURE, FRAME, LINK):
                if how != LINK or route[0] not in SAFE:
                    page = [("sec-fetch-site", where), *how, ("referer", "https://evil.example/")]
                    told = await asked(site, route, [("host", HOST), *page])
                    assert told == (403, "ORIGIN_NOT_ALLOWED"), (route, page)
        for name, value in (("host", "localhost"), ("sec-fetch-site", "none"), ("origin", f"http://{HOST}")):
            twice = [*ELSEWHERE, ("origin", "null"), (name, value)]
            assert (await asked(site, route, twice))[0] == 400, route


ELSEWHERE = [("host", HOST), ("sec-fetch-site", "cross-site")]


class Reached(SseGateway):
    """A gateway with the same answer for every request."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b""})


ALLOWED: Mapping[str, list[tuple[str, str]]] = {
    "a program": [],
    "a page of its own": [("origin", f"http://{HOST}"), ("sec-fetch-site", "same-origin")],
    "the user": [("sec-fetch-site", "none")],
    "a form of its own": [("sec-fetch-site", "same-origin")],
    "a page behind TLS that ends before": [("host", "app.example"), ("origin", "https://app.example")],
    "a configured page": [("origin", "https://ui.example"), ("sec-fetch-site", "cross-site")],
    "a page of the gateway's own list": [("origin", "http://localhost:3000")],
}


@pytest.mark.parametrize("who", ALLOWED)
async def test_who_may_call_reaches_the_gateway(who: str) -> None:
    settings = SseSettings(
        cors_origins=["http://localhost:3000", "https://ui.example"], allowed_hosts=["app.example"]
    )
    site = GatewaySite([Reached(settings)], HttpSettings())
    headers = ALLOWED[who]
    if "host" not in dict(headers):
        headers = [("host", HOST), *headers]
    for method in ("GET", "POST", "DELETE", "WEBSOCKET"):
        assert await asked(site, (method, "/runs"), headers) == (299, "")


async def test_a_star_allows_every_origin_and_no_other_host() -> None:
    site = GatewaySite([Reached(SseSettings(cors_origins=["*"]))], HttpSettings())
    for origin in ("https://evil.example", "null"):
        assert (await asked(site, ("POST", "/"), [("host", HOST), ("origin", origin)]))[0] == 299
    assert (await asked(site, ("POST", "/"), [("host", "evil.example")]))[0] == 421


async def test_a_link_from_another_site_can_be_followed() -> None:
    site = GatewaySite([Reached(SseSettings())], HttpSettings())
    for method in SAFE:
        assert (await asked(site, (method, "/docs"), [*ELSEWHERE, *LINK]))[0] == 299
    assert (await asked(site, ("POST", "/docs"), [*ELSEWHERE, *LINK]))[0] == 403


@pytest.mark.parametrize(
    ("origins", "referer", "shown"),
    [
        (["https://ui.example"], "https://ui.example/chat?a=b", True),
        (["https://ui.example"], "https://ui.example", True),
        (["*"], "", True),
        (["https://ui.example"], "https://ui.example.evil.example/", False),
        (["https://ui.example"], "", False),
        ([], "https://ui.example/", False),
    ],
)
async def test_a_page_that_may_call_shows_pictures_from_here(
    origins: list[str], referer: str, shown: bool
) -> None:
    site = GatewaySite([Reached(SseSettings(cors_origins=origins))], HttpSettings())
    for how in (PICTURE, FRAME):
        told = await asked(site, ("GET", "/plot.png"), [*ELSEWHERE, *how, ("referer", referer)])
        assert told[0] == (299 if shown else 403)
    told = await asked(site, ("POST", "/plot.png"), [*ELSEWHERE, *FRAME, ("referer", referer)])
    assert told[0] == 403


async def test_a_signed_path_is_open_to_pages_of_any_origin() -> None:
    site = GatewaySite([Reached(SseSettings())], HttpSettings())
    for route in (("GET", PORT_PATH), ("POST", PORT_PATH), ("WEBSOCKET", PORT_PATH)):
        for origin in ("null", "https://evil.example"):
            told = await asked(
                site, route, [("host", HOST), ("origin", origin), ("sec-fetch-site", "cross-site")]
            )
            assert told[0] == 299


def test_what_is_allowed_for_a_site_is_allowed_for_each_of_its_gateways(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("portico.gateways.__main__._log", lambda settings: None)
    monkeypatch.setenv("PORTICO_HTTP_CORS_ORIGINS", '["https://all.example"]')
    monkeypatch.setenv("PORTICO_HTTP_ALLOWED_HOSTS", '["all.example"]')
    monkeypatch.setenv("PORTICO_MCP_CORS_ORIGINS", '["https://mcp.example"]')
    settings = {gateway.name: gateway.settings for gateway in make_site("all", {}).gateways}
    for name, one in settings.items():
        own = ["https://mcp.example"] if name == "mcp" else []
        assert (one.cors_origins, one.allowed_hosts) == (["https://all.example", *own], ["all.example"])


def chatty(ran: list[str]) -> AgentApp:
    app = AgentApp("chatty")

    @app.query
    async def query(msgs: list[Any], context: Context) -> AsyncIterator[str]:
        ran.append(context.run_id)
        yield "private words"

    return app


async def test_a_hostile_page_starts_nothing_and_reads_nothing(tmp_path: Path) -> None:
    ran: list[str] = []
    settings = SseSettings(**settings_in(tmp_path))
    openai = GATEWAYS["openai"].factory()(OpenAiSettings(**settings_in(tmp_path)))
    async with (
        running_core([chatty(ran)], tmp_path),
        running_site([openai, SseGateway(settings)], settings) as (url, _),
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        evil = {"origin": "https://evil.example"}
        body = '{"input": "hi", "stream": false}'
        for types in ("application/json", "text/plain", "application/x-www-form-urlencoded", ""):
            headers = {**evil, **({"content-type": types} if types else {})}
            assert (await http.post("/process", content=body, headers=headers)).status_code == 403
            assert (
                await http.post("/process", content=body, headers={"host": "evil.example"})
            ).status_code == 421
        for path in ("/runs/x/cancel", "/sandboxes/x/pause", "/sessions/u/s/interrupt"):
            assert (await http.post(path, headers=evil)).status_code == 403
            assert (await http.post(path, headers={"sec-fetch-site": "cross-site"})).status_code == 403
        ws = url.replace("http", "ws", 1)
        for target in (f"{ws}/v1/responses", f"{ws}/sandboxes/x/terminal"):
            for told, status in (({**evil}, 403), ({"origin": "null"}, 403)):
                with pytest.raises(websockets.InvalidStatus) as refused:
                    await websockets.connect(target, additional_headers=told)
                assert refused.value.response.status_code == status
        # A rebound name, also if only the target has it and the Host header does not.
        for head in (
            "POST http://evil.example/process HTTP/1.1\r\nhost: localhost",
            "POST HTTP://evil.example HTTP/1.1\r\nhost: localhost",
            "POST /process HTTP/1.1\r\nhost: evil.example",
            "POST /process HTTP/1.1\r\nhost: localhost\r\nhost: evil.example",
            "POST /process HTTP/1.0",
            "GET http://evil.example/v1/responses HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n"
            "connection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
        ):
            assert await first_line(url, head, body) in (b"421", b"400"), head
        assert not ran
        assert await first_line(url, f"POST {url}/process HTTP/1.1\r\nhost: x", body) == b"200"
        own = await http.post(
            "/process", content=body, headers={"content-type": "application/json", "origin": url}
        )
        assert "private words" in own.text
        assert len(ran) == 2


async def first_line(url: str, head: str, body: str) -> bytes:
    """Returns the status of the answer to a request that is sent as it is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    type_and_size = f"content-type: application/json\r\ncontent-length: {len(body)}"
    writer.write(f"{head}\r\n{type_and_size}\r\nconnection: close\r\n\r\n{body}".encode())
    line = await reader.readline()
    writer.close()
    return line.split()[1]


async def test_any_host_is_answered_once_the_core_checks_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin_check, "KNOWN_SECONDS", 0.0)
    monkeypatch.setattr(origin_check, "AGAIN_SECONDS", 0.0)
    settings = SseSettings(**settings_in(tmp_path))
    named = {"host": "api.example"}
    async with (
        running_site(SseGateway(settings), settings) as (url, _),
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        assert (await http.get("/liveness", headers=named)).status_code == 503  # the core can't be asked
        assert (await http.get("/liveness")).status_code == 200
        async with guarded_core([chatty([])], tmp_path) as core:
            assert (await http.get("/runs", headers=named)).status_code == 401
            key = {"authorization": f"Bearer {await core.key('ada')}"}
            assert (await http.get("/runs", headers={**named, **key})).status_code == 200
            foreign = {**named, **key, "origin": "https://evil.example"}
            assert (await http.get("/runs", headers=foreign)).status_code == 403
        async with running_core([chatty([])], tmp_path):
            async with Client(f"unix:{tmp_path}/core.sock") as client:
                await client.agents.get()
            assert (await http.get("/runs", headers=named)).status_code == 421
