"""Query parameters: every route of every gateway refuses unknown ones in its protocol's format."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio
from a2a.server.routes import create_rest_routes
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from openai import AsyncOpenAI, BadRequestError
from starlette.routing import Route
from support.serving import running_core, running_site, settings_in
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from portico.agent import AgentApp
from portico.gateways.a2a.app import A2aGateway
from portico.gateways.a2a.settings import A2aSettings
from portico.gateways.http.settings import HttpSettings
from portico.gateways.http.site import Gateway
from portico.gateways.mcp.lazy_gateway import LazyMcpGateway
from portico.gateways.mcp.settings import McpSettings
from portico.gateways.openai.app import OpenAiGateway
from portico.gateways.openai.app import create_app as openai_app
from portico.gateways.openai.settings import OpenAiSettings
from portico.gateways.sse.app import SseGateway
from portico.gateways.sse.app import create_app as sse_app
from portico.gateways.sse.settings import SseSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN = "memoryid"


class Place(NamedTuple):
    method: str  # or WEBSOCKET
    path: str


def filled(path: str) -> str:
    return re.sub(r"{[^}]+}", "1", path)


def declared(app: FastAPI) -> list[Place]:
    """Returns all routes of an application, including those that the document leaves out."""
    return [
        Place(method, filled(route.path))
        for route in iter_route_contexts(app.router.routes)
        if route.path is not None
        for method in sorted(route.methods or {"WEBSOCKET"})
    ]


def of_a2a() -> list[Place]:
    nobody: Any = None
    routes = [
        route for route in create_rest_routes(nobody, enable_v0_3_compat=True) if isinstance(route, Route)
    ]
    places = [(sorted(route.methods or ()), filled(route.path)) for route in routes]
    below = [Place(method, f"/a2a{path}") for methods, path in places for method in methods]
    own = [Place("POST", "/a2a"), Place("GET", "/.well-known/agent-card.json")]
    named = [Place(method, f"/agents/echo{path}") for method, path in own]
    return [*own, *named, *below]


SSE, OPENAI = declared(sse_app(SseSettings())), declared(openai_app(OpenAiSettings()))
AROUND = [  # routes that bypass FastAPI: the hot paths, and those of the site itself
    Place("POST", "/process"),
    *(
        Place(method, f"{prefix}/{path}")
        for prefix in ("/v1", "/compatible-mode/v1")
        for method, path in (("POST", "responses"), ("POST", "chat/completions"), ("WEBSOCKET", "responses"))
    ),
    *(Place(method, "/mcp") for method in ("POST", "GET", "DELETE")),
    Place("GET", "/metrics"),
]
EVERY = sorted({*SSE, *OPENAI, *AROUND, *of_a2a()})


def agent() -> AgentApp:
    app = AgentApp("echo")

    @app.query
    async def query(msgs: list[Any]) -> str:
        return "hi"

    @app.endpoint("/weather", methods=["GET"])
    def weather(city: str, memoryid: str = "") -> str:
        return f"{city} {memoryid}"

    return app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A client of all gateways on one port."""
    directory: Path = tmp_path_factory.mktemp("world")
    core = settings_in(directory)
    gateways: list[Gateway] = [
        A2aGateway(A2aSettings(**core, push=False)),
        LazyMcpGateway(McpSettings(**core)),
        OpenAiGateway(OpenAiSettings(**core)),
        SseGateway(SseSettings(**core)),
    ]
    async with (
        running_core([agent()], directory),
        running_site(gateways, HttpSettings(**core, metrics=True)) as (url, _),
        httpx.AsyncClient(base_url=url, timeout=20, headers={"a2a-version": "1.0"}) as client,
    ):
        yield client


async def status(http: httpx.AsyncClient, place: Place, query: str) -> int:
    url = f"{place.path}?{query}"
    if place.method != "WEBSOCKET":
        return (await http.request(place.method, url)).status_code
    with pytest.raises(InvalidStatus) as refused:
        await connect(str(http.base_url.join(url)).replace("http", "ws", 1))
    return refused.value.response.status_code


async def test_the_routes_are_found() -> None:
    assert len(EVERY) > 110
    assert Place("DELETE", "/memories") in EVERY
    assert Place("WEBSOCKET", "/sandboxes/1/terminal") in EVERY
    assert Place("GET", "/compatible-mode/v1/models") in EVERY
    assert Place("GET", "/a2a/tasks") in EVERY


@pytest.mark.parametrize("place", EVERY, ids=" ".join)
async def test_an_unknown_parameter_is_400_on_every_route(http: httpx.AsyncClient, place: Place) -> None:
    assert await status(http, place, f"{UNKNOWN}=x") == 400
    assert await status(http, place, f"{UNKNOWN}") == 400


async def test_a_misspelt_filter_removes_nothing(http: httpx.AsyncClient) -> None:
    added = await http.post(
        "/memories", json={"user_id": "ada", "memories": [{"text": "tea"}, {"text": "milk"}]}
    )
    id = added.json()["memories"][0]["memory_id"]
    for query in (
        f"id={id}",
        f"memoryid={id}",
        "memory_id=",
        f"memory_id={id}&memory_id=",
        "session_id=",
        "key=",
        "filter=",
        "filter={}",
    ):
        refused = await http.delete(f"/memories?user_id=ada&{query}")
        assert refused.status_code == 400, query
    assert (await http.delete("/memories?user_id=&memory_id=x")).status_code == 400
    assert len((await http.get("/memories?user_id=ada")).json()["memories"]) == 2
    assert (await http.delete(f"/memories?user_id=ada&memory_id={id}")).json() == {"deleted": 1}


async def test_a_misspelt_filter_in_a_body_finds_nothing(http: httpx.AsyncClient) -> None:
    for path, body in (
        ("/memories/search", {"user_id": "ada", "query": "tea", "sesion_id": "s"}),
        ("/memories", {"user_id": "ada", "memories": [{"text": "tea", "expire_at": 1}]}),
        ("/sessions", {"user_id": "ada", "sesion_id": "s"}),
    ):
        refused = await http.post(path, json=body)
        assert refused.status_code == 422
        assert "not permitted" in refused.json()["error"]["message"]
    empty = await http.post("/memories/search", json={"user_id": "ada", "query": "tea", "session_id": ""})
    assert empty.status_code == 400


async def test_the_error_names_the_parameter_and_the_nearest_one(http: httpx.AsyncClient) -> None:
    words = "unknown query parameter 'memoryid': did you mean 'memory_id'?"
    error = (await http.delete("/memories?user_id=u&memoryid=x")).json()["error"]
    assert error == {"code": "UNKNOWN_PARAMETER", "message": words, "details": {"field": "memoryid"}}
    error = (await http.get("/v1/conversations/c/items?limti=3")).json()["error"]
    assert error == {
        "message": "unknown query parameter 'limti': did you mean 'limit'?",
        "type": "invalid_request_error",
        "param": "limti",
        "code": "unknown_parameter",
    }
    told = (await http.get("/a2a/tasks?contextID=x")).json()["error"]
    assert told["code"] == 400
    assert told["message"] == "unknown query parameter 'contextID': did you mean 'contextId'?"
    assert "contextID" in str(told["details"])
    call = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}
    told = (await http.post("/a2a?tenant=x", json=call)).json()
    assert told["error"]["code"] == -32602
    assert "this route takes A2A-Version" in told["error"]["message"]
    told = (await http.post("/mcp?key=x", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})).json()
    assert (told["error"]["code"], told["error"]["data"]) == (-32600, {"field": "key"})
    error = (await http.get("/agents?colour=x")).json()["error"]
    assert error["message"].endswith("this route takes page_size, page_token")


async def test_openais_extra_query_is_refused_by_its_own_error(http: httpx.AsyncClient) -> None:
    async with AsyncOpenAI(base_url=f"{http.base_url}/v1", api_key="x", max_retries=0) as openai:
        with pytest.raises(BadRequestError) as refused:
            await openai.models.list(extra_query={"api-version": "2025-01-01"})
        assert (refused.value.param, refused.value.code) == ("api-version", "unknown_parameter")
        response = await openai.responses.create(model="echo", input="hi")
        found = await openai.responses.retrieve(response.id, include=["message.output_text.logprobs"])
        assert found.output_text == "hi"


async def test_what_a_protocol_has_is_taken(http: httpx.AsyncClient) -> None:
    version = {"a2a-version": "1.0"}
    query = "contextId=x&pageSize=3&historyLength=0&includeArtifacts=false&A2A-Version=1.0"
    assert (await http.get(f"/a2a/tasks?{query}", headers=version)).status_code == 200
    assert (await http.get("/.well-known/agent-card.json?A2A-Version=1.0")).status_code == 200
    assert (await http.get("/runs?status=completed&status=failed")).status_code == 200
    assert (await http.get("/runs?page_token=")).status_code == 200


async def test_a_terminals_size_is_a_number(http: httpx.AsyncClient) -> None:
    place = Place("WEBSOCKET", "/sandboxes/1/terminal")
    for query in ("rows=x", "rows=-1", "columns=99999", "rows="):
        assert await status(http, place, query) == 422


async def test_an_agents_own_endpoint_gets_what_the_caller_sends(http: httpx.AsyncClient) -> None:
    for path in ("/weather", "/agents/echo/endpoints/weather"):
        assert (await http.get(f"{path}?city=Rome&memoryid=x")).json() == "Rome x"


@pytest.mark.parametrize("query", ["a" * 5000, "%ff%00=1", "=&=", "%F0%9F%8E%89=1", ";", "a=1&" * 3000])
async def test_a_hostile_query_is_refused_in_few_words(http: httpx.AsyncClient, query: str) -> None:
    for path in ("/runs", "/v1/models", "/a2a/tasks", "/mcp", "/metrics", "/process"):
        answer = await http.get(f"{path}?{query}")
        assert answer.status_code == 400, (path, answer.text)
        assert len(answer.content) < 2000
