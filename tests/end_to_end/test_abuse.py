"""Hostile or careless callers pay for their requests, and other callers do not."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from support.deployment import SCRIPTED, Deployment, ask

from portico.client import Client
from portico.v1 import query_pb2

IDLE = 5000
STREAMS = 10_000
MIB = 1024 * 1024
WATCH = "/portico.v1.QueryService/WatchRun"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment whose memory no other test uses."""
    started = Deployment(SCRIPTED, tmp_path_factory.mktemp("abuse"))
    yield started
    started.stop()


@pytest.fixture(autouse=True)
async def still_serving(deployment: Deployment) -> AsyncIterator[None]:
    """After the abuse the same processes answer."""
    before = [deployment.child("portico.core").pid, deployment.child("portico.gateways").pid]
    yield
    async with Client(deployment.target) as client:
        assert await client.runs.query("count 3").text() == "0 1 2 "
    async with httpx.AsyncClient(base_url=deployment.url, timeout=30) as http:
        assert (await http.post("/process", json=ask("count 3", stream=False))).status_code == 200
    assert [deployment.child("portico.core").pid, deployment.child("portico.gateways").pid] == before


def memory(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / MIB


async def test_idle_connections_cost_little_and_are_closed(deployment: Deployment) -> None:
    gateway = deployment.child("portico.gateways")
    before = memory(gateway)
    with contextlib.ExitStack() as stack:
        idle = []
        for _ in range(IDLE):
            connection = socket.create_connection(("127.0.0.1", deployment.http_port), timeout=30)
            idle.append(stack.enter_context(connection))
        async with httpx.AsyncClient(base_url=deployment.url, timeout=30) as http:
            assert (await http.post("/process", json=ask("count 3", stream=False))).status_code == 200
        assert memory(gateway) - before < 100
        for connection in (idle[0], idle[-1]):
            connection.settimeout(60)
            assert await asyncio.to_thread(connection.recv, 1) == b"", "closed, for it said nothing"


async def test_readers_that_never_read_cost_little(deployment: Deployment) -> None:
    gateway, core = deployment.child("portico.gateways"), deployment.child("portico.core")
    before = memory(gateway) + memory(core)
    request = b'{"input":[{"role":"user","content":[{"type":"text","text":"big 10000 50"}]}],"stream":true}'
    head = (
        b"POST /process HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", deployment.http_port))
            stack.enter_context(connection).sendall(head % len(request) + request)
        async with Client(deployment.target) as client, asyncio.timeout(60):
            # Their runs continue to the end without readers: each is 0.5 MB, four times that in the log.
            while len([run async for run in client.runs.list(statuses=["in_progress"])]) > 0:
                await asyncio.sleep(0.1)
        assert memory(gateway) + memory(core) - before < 400


async def test_streams_that_are_cancelled_leave_no_memory(deployment: Deployment) -> None:
    core = deployment.child("portico.core")
    async with Client(deployment.target) as client:
        run = await client.runs.start("count 100000 50")
        request = query_pb2.WatchRunRequest(run_id=run.response.id).SerializeToString()
        async with grpc.aio.insecure_channel(deployment.target) as channel:
            watch: Any = channel.unary_stream(WATCH)

            async def look(count: int) -> None:
                for _ in range(count):
                    call = watch(request)
                    await call.read()
                    call.cancel()

            await asyncio.gather(*(look(STREAMS // 50) for _ in range(10)))
            settled = memory(core)
            await asyncio.gather(*(look(STREAMS // 10) for _ in range(10)))
            assert memory(core) - settled < 16
        await client.runs.cancel(run.response.id)


async def test_metadata_over_the_limit_is_refused(deployment: Deployment) -> None:
    async with grpc.aio.insecure_channel(deployment.target) as channel:
        call: Any = channel.unary_unary("/portico.v1.QueryService/GetRun")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", metadata=(("x", "y" * 200_000),), timeout=20)
        assert caught.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 100_000,
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff" * 50_000,
        # A settings frame, then 20,000 pings.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        + (b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"12345678") * 20_000,
    ],
    ids=["zeros", "HTTP/1.1", "broken frames", "pings"],
)
async def test_bytes_that_are_no_grpc_end_their_own_connection(
    deployment: Deployment, garbage: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", deployment.grpc_port)
    with contextlib.suppress(ConnectionError):
        writer.write(garbage)
        await asyncio.wait_for(writer.drain(), 20)
        await asyncio.wait_for(reader.read(), 30)
    writer.close()


BODIES = {
    "deep": b"[" * 100_000,
    "deep object": b'{"input":' * 50_000,
    "invalid UTF-8": b'{"input": "\xff\xfe"}',
    "duplicate keys": b'{"input": 1, "input": "count 1"}',
    "huge number": b'{"input": "count 1", "max_tokens": ' + b"9" * 5000 + b"}",
    "infinity": b'{"input": "count 1", "temperature": 1e999}',
    "lone surrogate": b'{"input": "\\ud800"}',
    "NUL": b'{"input": "a\\u0000b"}',
    "no JSON": b"input=1",
    "empty": b"",
    "null": b"null",
}
PATHS = ["/process", "/v1/responses", "/v1/chat/completions", "/a2a", "/sessions", "/memories", "/mcp"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", BODIES)
async def test_odd_bodies_are_refused_or_answered(deployment: Deployment, path: str, name: str) -> None:
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    async with httpx.AsyncClient(base_url=deployment.url, timeout=30) as http:
        answer = await http.post(path, content=BODIES[name], headers=headers)
    assert answer.status_code < 500, answer.text
    assert "Traceback" not in answer.text
    assert str(Path.home()) not in answer.text
