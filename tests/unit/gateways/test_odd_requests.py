"""Malformed requests: every gateway refuses them in its protocol's format, and logs nothing."""

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import orjson
import pytest
import pytest_asyncio
from a2a.types import a2a_pb2, a2a_pb2_grpc
from support.deployment import free_port
from support.identity import guarded_core
from support.serving import running_site, settings_in
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
from portico.gateways.openai.settings import OpenAiSettings
from portico.gateways.sse.app import SseGateway
from portico.gateways.sse.settings import SseSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")


class World(NamedTuple):
    http: httpx.AsyncClient
    url: str
    rpc: str
    credential: str
    left: asyncio.Event


def echo(left: asyncio.Event) -> AgentApp:
    """Says a word; or yields until it is stopped."""
    app = AgentApp("echo")

    @app.query
    async def query(msgs: list[Any]) -> AsyncIterator[str]:
        try:
            yield "hi"
            while msgs[-1].text == "endless":
                yield "y" * 1000
                await asyncio.sleep(0)
        finally:
            left.set()

    return app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A core with auth, and all gateways before it on one port."""
    directory: Path = tmp_path_factory.mktemp("world")
    core = settings_in(directory)
    rpc = f"127.0.0.1:{free_port()}"
    async with AsyncExitStack() as stack:
        left = asyncio.Event()
        callers = await stack.enter_async_context(guarded_core([echo(left)], directory))
        gateways: list[Gateway] = [
            A2aGateway(A2aSettings(**core, grpc_listen=rpc, push=False)),
            LazyMcpGateway(McpSettings(**core)),
            OpenAiGateway(OpenAiSettings(**core)),
            SseGateway(SseSettings(**core)),
        ]
        url, _ = await stack.enter_async_context(running_site(gateways, HttpSettings(**core)))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=20))
        yield World(http, url, rpc, await callers.key("ada"), left)


MESSAGE = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}
ACCEPT = {"accept": "application/json, text/event-stream", "a2a-version": "1.0"}
# For each gateway a request that calls the core, and one that opens a stream on the shared connection.
REQUESTS: list[tuple[str, str, Any]] = [
    ("GET", "/runs", None),
    ("POST", "/process", {"input": "hi"}),
    ("POST", "/v1/chat/completions", {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}),
    ("POST", "/v1/conversations", {}),
    ("POST", "/a2a/message:send", {"message": MESSAGE}),
    ("GET", "/a2a/tasks", None),
    ("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "ping"}),
]
requests = pytest.mark.parametrize(
    ("method", "path", "body"), REQUESTS, ids=[f"{method} {path}" for method, path, _ in REQUESTS]
)


async def ask(world: World, method: str, path: str, body: Any, **headers: str) -> httpx.Response:
    given = {"authorization": f"Bearer {world.credential}", **ACCEPT, **headers}
    return await world.http.request(method, path, json=body, headers=given)


@requests
@pytest.mark.parametrize("name", ["tracestate", "x-request-id", "traceparent"])
async def test_an_oversize_trace_header_changes_no_answer(
    world: World, name: str, method: str, path: str, body: Any
) -> None:
    for size in (600, *range(8_000, 17_000, 1_000), 40_000):
        answer = await ask(world, method, path, body, **{name: "a" * size})
        assert answer.status_code in (200, 201), (size, answer.text)


@requests
@pytest.mark.parametrize("kind", ["key", "jwt"])
async def test_an_oversize_credential_is_401(
    world: World, kind: str, method: str, path: str, body: Any
) -> None:
    for size in (*range(7_000, 17_000, 2_000), 40_000):
        credential = "a" * size if kind == "key" else f"{'a' * (size // 2)}.{'b' * (size // 2)}.c"
        answer = await ask(world, method, path, body, authorization=f"Bearer {credential}")
        assert answer.status_code == 401, (size, answer.text)
        assert answer.headers["www-authenticate"].startswith("Bearer")


@requests
async def test_a_credential_that_cannot_be_carried_is_not_left_out(
    world: World, method: str, path: str, body: Any
) -> None:
    given = [*((name.encode(), value.encode()) for name, value in ACCEPT.items())]
    given.append((b"authorization", b"Bearer \xe9"))
    answer = await world.http.request(method, path, json=body, headers=given)
    assert answer.status_code == 401, answer.text


async def test_metadata_of_a2as_grpc_is_bounded_the_same(world: World) -> None:
    async def code(*metadata: tuple[str, str]) -> Any:
        try:
            await stub.ListTasks(a2a_pb2.ListTasksRequest(), metadata=(("a2a-version", "1.0"), *metadata))
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async with grpc.aio.insecure_channel(world.rpc) as channel:
        stub: Any = a2a_pb2_grpc.A2AServiceStub(channel)  # type: ignore[no-untyped-call]
        own = ("authorization", f"Bearer {world.credential}")
        for size in (9_000, 12_000, 15_000, 40_000):
            assert await code(own, ("tracestate", "a" * size)) is grpc.StatusCode.OK
            assert await code(("authorization", "Bearer " + "a" * size)) is grpc.StatusCode.UNAUTHENTICATED
        assert await code(own, own) is grpc.StatusCode.UNAUTHENTICATED
        assert await code(own) is grpc.StatusCode.OK


def raw(world: World, lines: list[str]) -> int:
    """Returns the status of the answer to a head that is sent as it is."""
    host, _, port = world.url.partition("://")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(connection.makefile("rb").readline().split()[1])


PLACES = ["/runs", "/v1/models", "/a2a/tasks", "/mcp", "/process", "/health", "/nowhere"]


@pytest.mark.parametrize("path", PLACES)
async def test_a_head_that_is_ambiguous_is_400_everywhere(world: World, path: str) -> None:
    own = f"authorization: Bearer {world.credential}"
    host = "host: localhost"
    for headers in ([own], [host, host], [host, own, own]):
        assert await asyncio.to_thread(raw, world, [f"GET {path} HTTP/1.1", *headers]) == 400


@pytest.mark.parametrize("path", [*PLACES, "/a2a", "/a2a/echo", "/ports/x/", "/v1/responses/x", "/"])
async def test_a_websocket_where_there_is_none_is_refused(
    world: World, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(world.url.replace("http", "ws") + path)
    assert refused.value.response.status_code in (403, 404)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


IDS: list[Any] = [{}, [], 1.5, True]
NAMES: list[Any] = [5, "", None, {}, "x" * 1000]
METHODS = ["SendMessage", "SendStreamingMessage", "GetTask", "ListTasks", "message/send", "tasks/get"]
PARAMS: list[Any] = [4, [], [1], "x", {"message": 5}, {"id": []}, {"message": {"role": "x", "parts": 7}}]
CALL: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "GetTask"}
ILL_FORMED: list[Any] = [
    *([], [1], 1, None, "text", {}, [CALL, CALL], {"jsonrpc": "2.0"}, {**CALL, "jsonrpc": "1.0"}),
    *({**CALL, "id": id} for id in IDS),
    *({**CALL, "method": method} for method in NAMES),
    *({**CALL, "method": method, "params": params} for method in METHODS for params in PARAMS),
]


@pytest.mark.parametrize("version", ["1.0", "0.3", "9.9", ""])
async def test_ill_formed_json_rpc_without_a_credential_is_answered_and_not_logged(
    world: World, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = [b"", b"{", b"\xff\xfe", b"[" * 20_000, *map(orjson.dumps, ILL_FORMED)]
    headers = {"content-type": "application/json", "a2a-version": version, "accept": ACCEPT["accept"]}
    for body in bodies:
        answer = await world.http.post("/a2a", content=body, headers=headers)
        if answer.status_code == 401:
            continue
        assert answer.status_code == 200, answer.text
        error = answer.text.partition("data: ")[2] if answer.text.startswith("data") else answer.text
        assert -32700 <= orjson.loads(error)["error"]["code"] <= -32000, (body[:80], answer.text)
        assert (await world.http.post("/mcp", content=body, headers=headers)).status_code == 401
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "sse": ("/process", {"input": "endless"}),
    "responses": ("/v1/responses", {"input": "endless", "stream": True, "store": False}),
    "chat": (
        "/v1/chat/completions",
        {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "endless"}]},
    ),
}


@pytest.mark.parametrize("stream", STREAMS)
async def test_who_leaves_a_stream_unread_is_no_error(
    world: World, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.left.clear()
    path, body = STREAMS[stream]
    host, _, port = world.url.partition("://")[2].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    content = orjson.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {world.credential}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    assert (await reader.readline()).split()[1] == b"200"
    writer.transport.abort()
    async with asyncio.timeout(30):
        await world.left.wait()
    assert warnings(caplog) == []


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


LEAVING = """
import asyncio, os, sys
from websockets.asyncio.client import connect

async def main():
    for _ in range(5):
        socket = await connect(sys.argv[1], additional_headers={"authorization": "Bearer " + sys.argv[2]})
        await socket.send('{"type": "response.create", "input": "endless"}')
        await socket.recv()
    await asyncio.sleep(0.2)
    os._exit(0)

asyncio.run(main())
"""


async def test_who_leaves_a_websocket_with_frames_unread_is_no_error(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    url = world.url.replace("http", "ws") + "/v1/responses"
    command = (sys.executable, "-c", LEAVING, url, world.credential)
    world.left.clear()
    client = await asyncio.create_subprocess_exec(*command)
    async with asyncio.timeout(60):
        assert await client.wait() == 0
        await world.left.wait()
    assert warnings(caplog) == []
