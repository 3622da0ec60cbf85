"""A core server as a whole, in process: what operators and tools rely on."""

import importlib
import inspect
import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from portico.agent import AgentApp
from portico.core.server import CoreServer
from portico.core.settings import CoreSettings


def echo() -> AgentApp:
    app = AgentApp("echo")

    @app.query
    async def query(msgs: list[object]) -> AsyncIterator[str]:
        yield "hello"

    return app


def settings(tmp_path: Path) -> CoreSettings:
    return CoreSettings(listen=[f"unix:{tmp_path}/core.sock"], store="memory://", drain_seconds=1)


@pytest.mark.parametrize(
    "module", ["portico.core.server", "portico.client.connection", "portico.gateways.a2a.rpc"]
)
def test_every_channel_option_is_one_that_grpc_has(module: str) -> None:
    """A name that it does not know it passes over without a word."""
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
