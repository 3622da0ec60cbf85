"""Every route of every gateway answers callers that request another user's data as if it did not exist.

A route that is in no table fails the test that walks the gateways. The core decides; these tests check that
gateways forward the caller's credential, add nothing, and convert the core's answer to their protocol.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, NamedTuple
from unittest.mock import Mock

import grpc
import httpx
import pytest
import pytest_asyncio
from a2a.server.routes import create_rest_routes
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.types import a2a_pb2, a2a_pb2_grpc
from openai import AsyncOpenAI, AuthenticationError, PermissionDeniedError
from support.deployment import free_port
from support.foreign_caller import SECRET, TENANT, UNKNOWN, USER, Estate, estate, filled, nameless
from support.routes import A2A_OLD, A2A_REST, A2A_RPC, MCP, OPENAI, PLACES, SSE, Case
from support.serving import running_site
from websockets.asyncio.client import connect

from portico.gateways.a2a.app import A2aGateway
from portico.gateways.a2a.bindings.http_bindings import _OLD_METHODS
from portico.gateways.a2a.request_handler import A2aRequestHandler
from portico.gateways.a2a.settings import A2aSettings
from portico.gateways.http.settings import HttpSettings
from portico.gateways.http.site import Gateway
from portico.gateways.mcp.app import McpGateway
from portico.gateways.mcp.settings import McpSettings
from portico.gateways.openai.app import OpenAiGateway
from portico.gateways.openai.app import create_app as openai_app
from portico.gateways.openai.settings import OpenAiSettings
from portico.gateways.sse.app import SseGateway
from portico.gateways.sse.app import create_app as sse_app
from portico.gateways.sse.settings import SseSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

STRANGERS = {
    "another user": lambda route: (f"eve-{route}", TENANT),
    "another tenant": lambda route: (USER, f"globex-{abs(hash(route))}"),
}
both = pytest.mark.parametrize("stranger", STRANGERS)


def documented(app: Any) -> set[str]:
    paths = app.openapi()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    return {route.replace("{task_id}", "{run_id}") for route in routes}


async def test_the_tables_have_every_route() -> None:
    assert set(SSE) == documented(sse_app(SseSettings()))
    assert set(OPENAI) == documented(openai_app(OpenAiSettings()))
    handler = A2aRequestHandler(Mock(), Mock(), Mock(), Mock())
    rest = {
        f"{method} {getattr(route, 'path', '')}"
        for route in create_rest_routes(handler)
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD"
    }
    assert set(A2A_REST) == rest
    assert set(A2A_RPC) == set(JsonRpcDispatcher.METHOD_TO_MODEL)
    assert set(A2A_OLD) == set(_OLD_METHODS)


class World(NamedTuple):
    owned: Estate
    http: httpx.AsyncClient
    url: str
    rpc: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One core with data of an owner, and all gateways before it on one port."""
    directory = tmp_path_factory.mktemp("world")
    extended = directory / "extended.json"
    extended.write_text('{"keeper": {"description": "for friends"}}')
    core: dict[str, Any] = {"core": f"unix:{directory}/core.sock", "resume_seconds": 1.0}
    rpc = f"127.0.0.1:{free_port()}"
    async with AsyncExitStack() as stack:
        owned = await stack.enter_async_context(estate(directory))
        a2a = A2aSettings(**core, extended_card=extended, push=True, grpc_listen=rpc)
        gateways: list[Gateway] = [
            A2aGateway(a2a),
            McpGateway(McpSettings(**core)),
            OpenAiGateway(OpenAiSettings(**core)),
            SseGateway(SseSettings(**core)),
        ]
        url, _ = await stack.enter_async_context(running_site(gateways, HttpSettings(**core)))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=20))
        yield World(owned, http, url, rpc)


async def ask(
    world: World, route: str, case: Case, names: Mapping[str, str], credential: str, base: str = ""
) -> httpx.Response:
    method, _, path = route.partition(" ")
    headers = {"authorization": f"Bearer {credential}"} if credential else {}
    if base:
        headers["a2a-version"] = "1.0"
    content: dict[str, Any] = {"json": filled(case.body, names)}
    if isinstance(case.body, bytes):
        content = {"content": case.body}
        headers["content-type"] = "application/octet-stream"
    elif case.body is None:
        content = {}
    url = base + filled(filled(path, PLACES), names)
    params = filled(dict(case.query or {}), names)
    return await world.http.request(method, url, params=params, headers=headers, **content)


def steady(answer: httpx.Response, names: Mapping[str, str]) -> tuple[int, str]:
    """Returns the parts of an answer that are equal for all names; a success may contain what the caller
    created.
    """
    return answer.status_code, nameless(answer.text, names) if answer.status_code >= 300 else ""


ROUTES = {**SSE, **OPENAI}


@both
@pytest.mark.parametrize("route", ROUTES)
async def test_what_is_anothers_is_not_there(world: World, route: str, stranger: str) -> None:
    case = ROUTES[route]
    credential = await world.owned.core.key(*STRANGERS[stranger](route))
    theirs = await ask(world, route, case, world.owned.names, credential)
    # A new key each time, since one of the routes revokes all keys of its caller.
    credential = await world.owned.core.key(*STRANGERS[stranger](route))
    nobodys = await ask(world, route, case, UNKNOWN, credential)
    assert SECRET not in theirs.text.replace(f"query={SECRET}", "")
    assert steady(theirs, world.owned.names) == steady(nobodys, UNKNOWN)
    names_another = stranger == "another user" and USER in (
        route.replace("{user_id}", USER).split("/")
        + [str(value) for value in (case.query or {}).values()]
        + [str(value) for value in (case.body.values() if isinstance(case.body, dict) else ())]
    )
    if names_another:
        assert theirs.status_code == 403, theirs.text
    elif case.kind == "hidden":
        assert theirs.status_code == 404 or "not_found" in theirs.text, theirs.text
    else:
        assert theirs.status_code in (200, 201, 202, 204, 409), theirs.text
    await world.owned.intact()


@pytest.mark.parametrize("route", ROUTES)
async def test_without_a_credential_there_is_nothing(world: World, route: str) -> None:
    for credential in ("", "pk_wrong"):
        answer = await ask(world, route, ROUTES[route], world.owned.names, credential)
        if ROUTES[route].kind == "open" and not (credential and "{" in route):
            assert answer.status_code == 200, answer.text
            continue
        assert answer.status_code == 401, answer.text
        assert answer.headers["www-authenticate"].startswith("Bearer")
        if route.startswith("HEAD "):
            continue
        body = answer.json()["error"]
        assert body["code"] in ("UNAUTHENTICATED", "invalid_api_key")


@both
@pytest.mark.parametrize("route", A2A_REST)
async def test_a_task_of_anothers_is_not_there(world: World, route: str, stranger: str) -> None:
    case = A2A_REST[route]
    credential = await world.owned.core.key(*STRANGERS[stranger](route))
    theirs = await ask(world, route, case, world.owned.names, credential, "/a2a")
    nobodys = await ask(world, route, case, UNKNOWN, credential, "/a2a")
    assert SECRET not in theirs.text
    assert steady(theirs, world.owned.names) == steady(nobodys, UNKNOWN)
    assert theirs.status_code == (404 if case.kind == "hidden" else 200), theirs.text
    for bad in ("", "pk_wrong"):
        refused = await ask(world, route, case, world.owned.names, bad, "/a2a")
        assert (refused.status_code, refused.headers.get("www-authenticate")) == (
            401,
            'Bearer realm="portico"',
        ), refused.text
    await world.owned.intact()


@both
@pytest.mark.parametrize("method", [*A2A_RPC, *A2A_OLD])
async def test_a_task_of_anothers_is_not_there_by_rpc(world: World, method: str, stranger: str) -> None:
    case = A2A_RPC.get(method) or A2A_OLD[method]
    version = {"a2a-version": "1.0" if method in A2A_RPC else "0.3"}

    async def call(names: Mapping[str, str], credential: str) -> httpx.Response:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": filled(case.body, names)}
        headers = {**version, "authorization": f"Bearer {credential}"} if credential else version
        if case.body is None:
            del body["params"]
        return await world.http.post("/a2a", json=body, headers=headers)

    credential = await world.owned.core.key(*STRANGERS[stranger](method))
    theirs, nobodys = await call(world.owned.names, credential), await call(UNKNOWN, credential)
    assert SECRET not in theirs.text
    assert nameless(theirs.text, world.owned.names) == nameless(nobodys.text, UNKNOWN)
    if case.kind == "hidden":
        assert "-32001" in theirs.text, theirs.text
    for bad in ("", "pk_wrong"):
        refused = await call(world.owned.names, bad)
        streams = "event-stream" in refused.headers["content-type"]
        assert refused.status_code == (200 if streams else 401), refused.text
        assert "credential" in refused.text or "authenticated" in refused.text
    await world.owned.intact()


async def test_a_task_of_anothers_is_not_there_over_grpc(world: World) -> None:
    credential = await world.owned.core.key("eve", TENANT)
    async with grpc.aio.insecure_channel(world.rpc) as channel:
        stub: Any = a2a_pb2_grpc.A2AServiceStub(channel)  # type: ignore[no-untyped-call]
        for given in (credential, "pk_wrong", ""):
            metadata = [("a2a-version", "1.0")]
            if given:
                metadata.append(("authorization", f"Bearer {given}"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetTask(a2a_pb2.GetTaskRequest(id=world.owned.names["run"]), metadata=metadata)
            assert caught.value.code().name == ("NOT_FOUND" if given == credential else "UNAUTHENTICATED")


async def test_the_card_says_what_is_true_and_the_extended_one_is_for_friends(world: World) -> None:
    card = (await world.http.get("/.well-known/agent-card.json")).json()
    assert card["securitySchemes"]["bearer"]["httpAuthSecurityScheme"]["scheme"] == "Bearer"
    assert card["securityRequirements"] == [{"schemes": {"bearer": {}}}]
    assert card["capabilities"]["extendedAgentCard"] is True
    headers = {"a2a-version": "1.0", "authorization": f"Bearer {world.owned.credential}"}
    extended = (await world.http.get("/a2a/extendedAgentCard", headers=headers)).json()
    assert extended["description"] == "for friends"


@both
async def test_a_sandbox_of_anothers_is_not_there_for_a_model(world: World, stranger: str) -> None:
    credential = await world.owned.core.key(*STRANGERS[stranger]("mcp"))
    headers = {"accept": "application/json, text/event-stream", "authorization": f"Bearer {credential}"}

    async def call(tool: str, names: Mapping[str, str]) -> dict[str, Any]:
        params = {"name": tool, "arguments": filled(MCP[tool], names)}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        answer: dict[str, Any] = (await world.http.post("/mcp", json=body, headers=headers)).json()["result"]
        return answer

    async with httpx.AsyncClient(headers=headers) as http:
        listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        tools = (await http.post(f"{world.url}/mcp", json=listing)).json()["result"]["tools"]
    assert {tool["name"] for tool in tools} == set(MCP)
    for tool, arguments in MCP.items():
        theirs = await call(tool, world.owned.names)
        assert SECRET not in str(theirs)
        if arguments:
            assert theirs["isError"], theirs
            assert "_NOT_FOUND" in theirs["content"][0]["text"]
            nobodys = await call(tool, UNKNOWN)
            assert nameless(str(theirs), world.owned.names) == nameless(str(nobodys), UNKNOWN)
        else:
            assert not theirs["isError"], theirs
    await world.owned.intact()
    for bad in ({}, {"authorization": "Bearer pk_wrong"}):
        refused = await world.http.post("/mcp", json=listing, headers=bad)
        assert (refused.status_code, refused.headers["www-authenticate"][:6]) == (401, "Bearer")


async def test_openais_sdk_raises_its_own_errors(world: World) -> None:
    base = f"{world.url}/v1"
    async with AsyncOpenAI(base_url=base, api_key="pk_wrong", max_retries=0) as client:
        with pytest.raises(AuthenticationError):
            await client.responses.create(input="hi", model="keeper")
        with pytest.raises(AuthenticationError):
            await client.models.list()
    async with AsyncOpenAI(base_url=base, api_key=world.owned.credential, max_retries=0) as client:
        assert (await client.responses.create(input="hi", model="keeper")).output_text == "hi"
        with pytest.raises(PermissionDeniedError):
            await client.chat.completions.create(
                messages=[{"role": "user", "content": "hi"}], model="keeper", user="eve"
            )
    reader = await world.owned.core.key(USER, TENANT, "read")
    async with AsyncOpenAI(base_url=base, api_key=reader, max_retries=0) as client:
        assert (await client.responses.retrieve(world.owned.names["run"])).id == world.owned.names["run"]
        with pytest.raises(PermissionDeniedError):
            await client.responses.create(input="hi", model="keeper")


async def test_what_is_no_request_of_http_is_its_callers_too(world: World) -> None:
    """WebSockets: the terminal of a sandbox, and OpenAI's."""
    base = world.url.replace("http", "ws", 1)
    eve = {"authorization": f"Bearer {await world.owned.core.key('eve', TENANT)}"}
    for names in (world.owned.names, UNKNOWN):
        async with connect(f"{base}/sandboxes/{names['sandbox']}/terminal", additional_headers=eve) as socket:
            assert "SANDBOX_NOT_FOUND" in str(await socket.recv())
    async with connect(f"{base}/sandboxes/{world.owned.names['sandbox']}/terminal") as socket:
        assert "UNAUTHENTICATED" in str(await socket.recv())
    create = '{"type": "response.create", "model": "keeper", "input": "hi", "previous_response_id": "%s"}'
    for headers, words in ((eve, "not_found"), ({}, "invalid_api_key")):
        async with connect(f"{base}/v1/responses", additional_headers=headers) as socket:
            await socket.send(create % world.owned.names["run"])
            assert words in str(await socket.recv())


async def test_a_signed_port_opens_without_a_credential(world: World) -> None:
    granted = await world.owned.owner.sandboxes.create_port_access(world.owned.names["sandbox"], 8000)
    answer = await world.http.get(f"/ports/{granted.access_token}/")
    assert answer.status_code not in (401, 403, 404), answer.text  # no server listens in the sandbox
    assert (await world.http.get(f"/ports/{granted.access_token[:-1]}/")).status_code == 404
