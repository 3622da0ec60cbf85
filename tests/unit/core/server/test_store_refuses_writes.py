"""A store that refuses writes: callers get an error in time, health reports it, and recovery is automatic."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.serving import running_core

from portico.agent import AgentApp
from portico.client import Client, Multiplexer, query_request
from portico.client.errors import Unavailable
from portico.core.stores.sql import write_lock
from portico.v1 import query_pb2

PATIENCE = 20.0  # seconds of a test; a forgotten caller would wait for ever
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def echo() -> AgentApp:
    app = AgentApp("echo")

    @app.query
    async def query(msgs: list[Any]) -> str:
        return "hi"

    return app


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another process holds the database's write lock within the context."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    store = f"sqlite:///{tmp_path}/portico.db"
    async with running_core([echo()], tmp_path, store=store) as server, Client(server.addresses[0]) as client:
        yield client


async def health(client: Client, wanted: int) -> None:
    """Waits until health has this status."""
    stub: Any = health_pb2_grpc.HealthStub(client.calls.connection.channel)  # type: ignore[no-untyped-call]
    async with asyncio.timeout(PATIENCE):
        for service in ("", "portico.v1.QueryService", "portico.v1.SessionService"):
            request = health_pb2.HealthCheckRequest(service=service)
            while (await stub.Check(request)).status != wanted:
                await asyncio.sleep(0.05)


async def test_whoever_waits_for_a_locked_store_is_told_in_time(client: Client, tmp_path: Path) -> None:
    async def multiplexed(**more: Any) -> None:
        with link.open_query(query_request("hi", **more)) as stream:
            async for _ in stream:
                pass

    async with Multiplexer(client) as link:
        with locked(tmp_path / "portico.db"):
            # All at once, so that none of them knows of another's failure.
            work = [
                client.runs.start("hi", idempotency_key="order-1"),
                client.runs.query("hi").text(),
                multiplexed(),
                multiplexed(background=True),
                client.sessions.create(user_id="ada", session_id="s"),
                client.sessions.delete("s", user_id="ada"),
                client.states.save({}, user_id="ada", session_id="s"),
                *(client.memories.add("m", user_id="ada") for _ in range(20)),
            ]
            async with asyncio.timeout(PATIENCE):
                told = await asyncio.gather(*work, return_exceptions=True)
            assert {type(error) for error in told} == {Unavailable}, told
            assert {error.reason for error in told if isinstance(error, Unavailable)} == {"STORE_UNAVAILABLE"}
            await health(client, NOT_SERVING)
            # From now on the failure is known, so callers don't wait.
            with pytest.raises(Unavailable, match="locked by another process"):
                await client.runs.start("hi")
        await health(client, SERVING)
        assert await client.runs.query("hi").text() == "hi"


async def test_health_follows_writes_that_are_not_of_runs(client: Client, tmp_path: Path) -> None:
    with locked(tmp_path / "portico.db"):
        with pytest.raises(Unavailable, match="locked by another process"):
            await client.memories.add("m", user_id="ada")
        await health(client, NOT_SERVING)
    await health(client, SERVING)


async def test_who_waits_too_long_for_a_turn_is_told(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_lock, "MAX_WAIT_SECONDS", 0.1)
    with locked(tmp_path / "portico.db"):
        async with asyncio.timeout(PATIENCE):
            told = await asyncio.gather(
                *(client.memories.add("m", user_id="ada") for _ in range(5)), return_exceptions=True
            )
    assert any("too busy" in str(error) for error in told), told


async def test_the_client_does_not_try_again_what_the_core_has_waited_for(
    client: Client, tmp_path: Path
) -> None:
    request = query_pb2.StartRunRequest(query=query_request("hi")).SerializeToString()
    with locked(tmp_path / "portico.db"):
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/core.sock") as channel:
            start: Any = channel.unary_unary("/portico.v1.QueryService/StartRun")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await start(request, timeout=PATIENCE)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert ("grpc-retry-pushback-ms", "-1") in tuple(refused.value.trailing_metadata() or ())
