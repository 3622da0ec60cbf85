"""A complete core server in this process: health, reflection, drain and the like."""

import asyncio
import importlib
import inspect
import json
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support.serving import running_core

from portico.agent import AgentApp, AgentRequest
from portico.client import Client
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import Commit, MemoryRecord, NewSession, RunFilter, RunRecord
from portico.v1 import events_pb2, query_pb2


def echo() -> AgentApp:
    app = AgentApp("echo")

    @app.query
    async def query(msgs: list[object]) -> AsyncIterator[str]:
        yield "hello"

    return app


def settings(tmp_path: Path) -> CoreSettings:
    return CoreSettings(listen=[f"unix:{tmp_path}/core.sock"], store="memory://", drain_seconds=1)


@pytest.mark.parametrize(
    "module",
    [
        "portico.core.server.core_server",
        "portico.client.connection",
        "portico.gateways.a2a.bindings.grpc_binding",
    ],
)
def test_every_channel_option_is_one_that_grpc_has(module: str) -> None:
    """gRPC silently ignores an unknown name."""
    source = inspect.getsource(importlib.import_module(module))
    known = Path(cygrpc.__file__).read_bytes()
    names = re.findall(r'"(grpc\.[a-z0-9_.]+)"', source)
    assert names
    assert [name for name in names if name.encode() not in known] == []


async def test_health_knows_each_service_and_reflection_tells_the_contract(tmp_path: Path) -> None:
    server = CoreServer([echo()], settings(tmp_path))
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.addresses[0]) as channel:
            health = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
            request = health_pb2.HealthCheckRequest(service="portico.v1.QueryService")
            assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[no-untyped-call]
            call = reflection.ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            )
            names = [
                service.name async for answer in call for service in answer.list_services_response.service
            ]
            assert "portico.v1.QueryService" in names
            assert "portico.v1.SandboxService" in names
    finally:
        await server.stop()


async def test_an_address_in_use_is_named(tmp_path: Path) -> None:
    first = CoreServer([echo()], CoreSettings(listen=["127.0.0.1:0"], store="memory://", drain_seconds=1))
    await first.start()
    try:
        taken = first.addresses[0]
        second = CoreServer([echo()], CoreSettings(listen=[taken], store="memory://"))
        with pytest.raises(OSError, match=taken):
            await second.start()
    finally:
        await first.stop()


async def test_what_became_too_old_while_no_core_ran_goes_at_the_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/portico.db"
    stores = await open_stores(url)
    for name, age in (("old", 3600), ("young", 0)):
        at = time.time() - age
        run = RunRecord(name, "echo", "ada", name, "completed", at, at, -1, 1, False, None, b"", b"")
        await stores.runs.commit(Commit(runs=[run], sessions=[NewSession("ada", name, at)]))
        await stores.memories.add([MemoryRecord(name, "ada", name, "penguin", at, updated_at=at)])
    await stores.close()
    kept = {f"{kind}_ttl_seconds": 600 for kind in ("run", "session", "state", "memory")}
    async with (
        running_core([echo()], tmp_path, store=url, **kept) as server,
        Client(server.addresses[0]) as client,
        asyncio.timeout(20),
    ):
        while True:
            sessions = [one.session_id async for one in client.sessions.list(user_id="ada")]
            memories = [one.memory_id async for one in client.memories.list(user_id="ada")]
            runs = [record.run_id for record in await server._stores.runs.list(RunFilter(), None, 9)]
            if (sessions, memories, runs) == (["young"], ["young"], ["young"]):
                break
            await asyncio.sleep(0.02)


async def test_a_unix_socket_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        server = CoreServer([echo()], settings(tmp_path))
        await server.start()
        assert (tmp_path / "core.sock").stat().st_mode & 0o077 == 0
        await server.stop()
        assert os.umask(0) == 0
    finally:
        os.umask(before)


async def test_the_credentials_of_tools_are_told_to_the_agent_only(tmp_path: Path) -> None:
    app = AgentApp("told")
    go_on = asyncio.Event()

    @app.query
    async def query(msgs: list[object], request: AgentRequest) -> AsyncIterator[str]:
        yield str(dict(request.tools[0].raw))
        await go_on.wait()

    raw = {"type": "mcp", "server_url": "https://x", "authorization": "tok", "headers": {"x-key": "tok"}}
    server = CoreServer([app], settings(tmp_path))
    await server.start()
    try:
        async with Client(server.addresses[0]) as client:
            query_request = query_pb2.QueryRequest()
            asked = query_request.request
            asked.input.add(role=events_pb2.ROLE_USER).content.add(text="go")
            asked.tools.add(name="s", type="mcp", raw_json=json.dumps(raw))
            run_id = (await client.runs.start(query_request)).response.id
            told = [await client.runs.get(run_id)]
            go_on.set()
            *_, end = [event async for event in client.runs.watch(run_id)]
            assert end.response.output[0].content[0].text.count("tok") == 2
            told.append(await client.runs.get(run_id))
            for run in told:
                [tool] = run.request.tools
                assert json.loads(tool.raw_json) == {"type": "mcp", "server_url": "https://x"}
    finally:
        await server.stop()
