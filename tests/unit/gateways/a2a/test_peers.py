"""Agents that call other agents: two cores and gateways in one event loop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.a2a_gateways import Gateway, running_core, running_gateway

from portico.agent import AgentApp, Context, Message
from portico.client import Client
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings


def caller(url: str) -> AgentApp:
    app = AgentApp("caller")

    @app.query
    async def query(msgs: Sequence[Message], context: Context) -> AsyncGenerator[Any, Any]:
        peer = context.a2a(url)
        words = msgs[-1].text
        if words == "chat":
            asked = await peer.send("ask")
            yield f"{asked.state}: "
            answer = await peer.send("Rome", task_id=asked.task_id)
            yield f"{answer.state} {answer.text}"
        elif words == "direct":
            answer = await context.a2a(f"{url}/agents/direct").send("hello")
            yield f"{answer.text} {answer.task_id!r}"
        else:
            async for piece in peer.stream(words):
                yield piece.text

    return app


@asynccontextmanager
async def calling(directory: Path, url: str) -> AsyncIterator[Client]:
    directory.mkdir()
    settings = CoreSettings(listen=[f"unix:{directory}/core.sock"], store="memory://", drain_seconds=0)
    server = CoreServer([caller(url)], settings)
    await server.start()
    try:
        async with Client(f"unix:{directory}/core.sock") as client:
            yield client
    finally:
        await server.stop()


@pytest.fixture
async def theirs(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_core(tmp_path), running_gateway(tmp_path) as gateway:
        yield gateway


async def test_an_agent_asks_answers_and_streams(theirs: Gateway, tmp_path: Path) -> None:
    async with calling(tmp_path / "ours", theirs.url) as client:
        async with client.runs.query("count 3") as stream:
            assert await stream.text() == "0 1 2 "
        async with client.runs.query("rich") as stream:
            assert await stream.text() == "It is 21 degrees."
        async with client.runs.query("chat") as stream:
            assert await stream.text() == "input-required: completed You said Rome."
        async with client.runs.query("direct") as stream:
            assert await stream.text() == "directly hello ''"


async def test_a_cancelled_run_cancels_its_peers_task(theirs: Gateway, tmp_path: Path) -> None:
    async with (
        calling(tmp_path / "ours", theirs.url) as client,
        Client(f"unix:{tmp_path}/core.sock") as their_client,
    ):
        async with client.runs.query("quiet") as stream:
            async for event in stream:
                if event.content.text:
                    break
            live = [run async for run in their_client.runs.list(statuses=["in_progress"])]
            assert len(live) == 1
            await client.runs.cancel(stream.run_id)
        ended = await their_client.runs.get(live[0].response.id)
        assert ended.response.completed_time.seconds


async def test_the_trace_of_the_caller_goes_on_to_the_peer(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    async with calling(tmp_path / "ours", url) as client:
        traced = client.with_options(metadata={"traceparent": trace})
        run = await traced.runs.start("x")
        while (await client.runs.get(run.response.id)).response.status < 4:
            await asyncio.sleep(0.01)
    server.close()
    assert b"traceparent: 00-" + b"a" * 32 in seen[0].lower()
