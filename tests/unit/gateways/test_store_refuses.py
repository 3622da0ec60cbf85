"""Every route of every gateway answers correctly and in time while the store refuses writes."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import orjson
import pytest
import pytest_asyncio
from a2a.types import a2a_pb2, a2a_pb2_grpc
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from support.deployment import free_port
from support.foreign_caller import Estate, estate, filled
from support.routes import (
    A2A_OLD,
    A2A_REST,
    A2A_RPC,
    MESSAGE,
    OLD_MESSAGE,
    OPENAI,
    PLACES,
    PUSH,
    SSE,
    Case,
    own,
)
from support.serving import running_site, settings_in
from websockets.asyncio.client import connect

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
PATIENCE = 30.0


class World(NamedTuple):
    owned: Estate
    http: httpx.AsyncClient
    rpc: str
    database: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A core with stored data of an owner, and all gateways before it on one port."""
    directory = tmp_path_factory.mktemp("world")
    core = settings_in(directory, resume_seconds=PATIENCE)
    rpc = f"127.0.0.1:{free_port()}"
    database = directory / "portico.db"
    async with AsyncExitStack() as stack:
        owned = await stack.enter_async_context(estate(directory, store=f"sqlite:///{database}"))
        gateways: list[Gateway] = [
            A2aGateway(A2aSettings(**core, push=True, push_allow=["127.0.0.1"], grpc_listen=rpc)),
            LazyMcpGateway(McpSettings(**core)),
            OpenAiGateway(OpenAiSettings(**core)),
            SseGateway(SseSettings(**core)),
        ]
        url, _ = await stack.enter_async_context(running_site(gateways, HttpSettings(**core)))
        credential = {"authorization": f"Bearer {owned.credential}"}
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, timeout=PATIENCE, headers=credential)
        )
        yield World(owned, http, rpc, database)


async def ask(world: World, route: str, case: Case, base: str = "") -> httpx.Response:
    method, _, path = route.partition(" ")
    headers = {"a2a-version": "1.0"} if base else {}
    content: dict[str, Any] = {"json": filled(case.body, world.owned.names)}
    if isinstance(case.body, bytes):
        content = {"content": case.body}
        headers["content-type"] = "application/octet-stream"
    elif case.body is None:
        content = {}
    url = base + filled(filled(path, PLACES), world.owned.names)
    return await world.http.request(
        method, url, params=filled(dict(case.query or {}), world.owned.names), headers=headers, **content
    )


async def call(world: World, method: str, params: Any, version: str) -> httpx.Response:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": filled(params, world.owned.names)}
    return await world.http.post("/a2a", json=body, headers={"a2a-version": version})


# Routes that work while nothing can be stored: sandboxes are not in the store, an ended run is only read, and
# the others compute. All other routes write.
ANSWERED = {
    *(route for route in SSE if route.split()[1].startswith("/sandboxes")),
    *(f"POST /runs/{{run_id}}/{what}" for what in ("cancel", "interrupt", "resume", "steer")),
    "POST /memories/search",
    "POST /v1/responses/compact",
    "POST /v1/responses/input_tokens",
    "POST /v1/responses/{response_id}/cancel",
}
# Another request here may have started a run in the session, whose end can't be stored.
EITHER = {"POST /sessions/{user_id}/{session_id}/interrupt"}
FORGET = "DELETE /users/{user_id}"
HTTP = {route: case for route, case in {**SSE, **OPENAI}.items() if not route.startswith(("GET ", "HEAD "))}
ASK = {"input": "hi"}
SEND = {"message": MESSAGE, "configuration": {"returnImmediately": True}}
CONFIG = {"taskId": "{run}", "id": "{config}"}
OLD_CONFIG = {"id": "{run}", "pushNotificationConfigId": "{config}"}
A2A = {
    "POST /message:send": own({"message": MESSAGE}),
    "POST /message:stream": own({"message": MESSAGE}),
    "POST /tasks/{id}/pushNotificationConfigs": A2A_REST["POST /tasks/{id}/pushNotificationConfigs"],
    "DELETE /tasks/{id}/pushNotificationConfigs/{push_id}": own(),
}
RPC = {
    **dict.fromkeys(("SendMessage", "SendStreamingMessage"), ("1.0", {"message": MESSAGE})),
    "CreateTaskPushNotificationConfig": ("1.0", {"taskId": "{run}", **PUSH}),
    "DeleteTaskPushNotificationConfig": ("1.0", CONFIG),
    **dict.fromkeys(("message/send", "message/stream"), ("0.3", {"message": OLD_MESSAGE})),
    "tasks/pushNotificationConfig/set": ("0.3", {"taskId": "{run}", "pushNotificationConfig": PUSH}),
    "tasks/pushNotificationConfig/delete": ("0.3", OLD_CONFIG),
}
# A2A operations that read. Messages to a task and cancellations write.
A2A_READS = (
    "Get",
    "List",
    "Subscribe",
    "Cancel",
    "tasks/get",
    "tasks/list",
    "tasks/cancel",
    "tasks/resubscribe",
)


async def of_grpc(world: World) -> tuple[str, str, str]:
    """Returns the answers of A2A's gRPC binding to operations that write: codes and causes."""
    metadata = (("a2a-version", "1.0"), ("authorization", f"Bearer {world.owned.credential}"))
    message = ParseDict({"message": MESSAGE}, a2a_pb2.SendMessageRequest())
    push = ParseDict(
        filled({"taskId": "{run}", **PUSH}, world.owned.names), a2a_pb2.TaskPushNotificationConfig()
    )

    async def told(called: Any) -> str:
        try:
            if hasattr(called, "read"):
                await called.read()
            else:
                await called
        except grpc.aio.AioRpcError as error:
            status: Any = rpc_status.from_call(error)  # type: ignore[no-untyped-call]
            info = error_details_pb2.ErrorInfo()
            assert status.details[0].Unpack(info)
            return f"{error.code().name} {info.metadata['cause']}"
        return "OK"

    async with grpc.aio.insecure_channel(world.rpc) as channel:
        stub: Any = a2a_pb2_grpc.A2AServiceStub(channel)  # type: ignore[no-untyped-call]
        options: Any = {"metadata": metadata, "timeout": PATIENCE}
        return await asyncio.gather(
            told(stub.SendMessage(message, **options)),
            told(stub.SendStreamingMessage(message, **options)),
            told(stub.CreateTaskPushNotificationConfig(push, **options)),
        )


async def of_websocket(world: World) -> str:
    url = str(world.http.base_url).replace("http", "ws") + "/v1/responses"
    credential = {"authorization": f"Bearer {world.owned.credential}"}
    async with asyncio.timeout(PATIENCE), connect(url, additional_headers=credential) as socket:
        await socket.send(orjson.dumps({"type": "response.create", **ASK}).decode())
        told: str = orjson.loads(await socket.recv())["error"]["code"]
        return told


async def test_every_route_that_writes_answers_in_time_while_the_store_is_locked(world: World) -> None:
    assert {method for method in (*A2A_RPC, *A2A_OLD) if not method.startswith(A2A_READS)} <= {
        *RPC,
        "tasks/pushNotificationConfig/get",
        "tasks/pushNotificationConfig/list",
        "agent/getAuthenticatedExtendedCard",
    }
    with closing(sqlite3.connect(world.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        # All at once: requests that wait for others must be answered in time too.
        asked = {route: ask(world, route, case) for route, case in HTTP.items() if route != FORGET}
        asked |= {
            "stream": ask(world, "POST /process", own({**ASK, "stream": True})),
            "background": ask(world, "POST /v1/responses", own({**ASK, "background": True})),
            "both": ask(world, "POST /v1/responses", own({**ASK, "background": True, "stream": True})),
            "returnImmediately": ask(world, "POST /message:send", own(SEND), "/a2a"),
            **{f"a2a {route}": ask(world, route, case, "/a2a") for route, case in A2A.items()},
            **{
                f"rpc {method}": call(world, method, params, version)
                for method, (version, params) in RPC.items()
            },
        }
        told, rpcs, frame = await asyncio.gather(
            asyncio.gather(*asked.values()), of_grpc(world), of_websocket(world)
        )
        answers = dict(zip(asked, told, strict=True))
        answers[FORGET] = await ask(world, FORGET, HTTP[FORGET])
        wrong = {
            route: answer.text[:200]
            for route, answer in answers.items()
            if not (
                (route not in ANSWERED and refused(answer))
                or (route in ANSWERED | EITHER and answer.status_code < 500)
            )
        }
        assert wrong == {}
        assert set(rpcs) == {"UNAVAILABLE STORE_UNAVAILABLE"}
        assert frame == "store_unavailable"
        readiness = await world.http.get("/readiness")
        assert (readiness.status_code, readiness.json()["error"]["code"]) == (503, "UNAVAILABLE")
        assert (await world.http.get("/health")).json()["runner"] == "unavailable"
        assert (await world.http.get("/liveness")).status_code == 200
        other.execute("ROLLBACK")
    async with asyncio.timeout(PATIENCE):
        while (await world.http.get("/readiness")).status_code != 200:
            await asyncio.sleep(0.05)
    assert (await ask(world, "POST /runs", own({**ASK, "stream": False}))).status_code == 201


def refused(answer: httpx.Response) -> bool:
    """Returns whether the answer says that the store is unavailable; 0.3's streams say so in an event."""
    streamed = answer.headers["content-type"].startswith("text/event-stream")
    if answer.status_code != (200 if streamed else 503):
        return False
    return (streamed and "not available" in answer.text) or "store_unavailable" in answer.text.lower()
