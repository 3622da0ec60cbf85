"""Chat streams with disconnects, a gateway that stops, silence, and input requests."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from portico.client import Client
from portico.core.server.core_server import CoreServer
from portico.v1 import events_pb2

PATH = "/v1/chat/completions"


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": text}], **more}


async def _lines(answer: httpx.Response) -> AsyncIterator[str]:
    async for line in answer.aiter_lines():
        if line:
            yield line


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_caller_who_leaves_ends_the_run(
    serve: Any, core: CoreServer, tmp_path: Path, streaming: bool
) -> None:
    http = await serve()
    asking = asyncio.create_task(http.post(PATH, json=body("quiet", store=True, stream=streaming)))
    async with Client(f"unix:{tmp_path}/core.sock") as client, asyncio.timeout(5):
        while not (runs := [run async for run in client.runs.list()]):
            await asyncio.sleep(0.01)
        asking.cancel()
        run_id = runs[0].response.id
        while (await client.runs.get(run_id)).response.error.code != "reader_gone":
            await asyncio.sleep(0.02)


async def test_a_gateway_that_stops_says_so(serve: Any, tmp_path: Path) -> None:
    http = await serve()
    async with http.stream("POST", PATH, json=body("quiet", stream=True)) as answer:
        lines = _lines(answer)
        assert '"role":"assistant"' in await anext(lines)
        http.site.stop()
        rest = [line async for line in lines]
    assert orjson.loads(rest[-2].removeprefix("data: "))["error"]["code"] == "draining"
    assert rest[-1] == "data: [DONE]"
    answer = await http.post(PATH, json=body("echo x"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")


async def test_a_silent_stream_gets_comments(serve: Any, tmp_path: Path) -> None:
    http = await serve(ping_seconds=0.05)
    async with http.stream("POST", PATH, json=body(f"until {tmp_path / 'go'}", stream=True)) as answer:
        lines = _lines(answer)
        while await anext(lines) != ": ping":
            pass
        (tmp_path / "go").touch()
        rest = [line async for line in lines]
    assert rest[-1] == "data: [DONE]"


async def test_a_question_that_is_not_stored_leaves_nothing_behind(
    serve: Any, core: CoreServer, tmp_path: Path
) -> None:
    http = await serve()
    for streaming in (True, False):
        answer = await http.post(PATH, json=body("ask", stream=streaming))
        run_id = answer.headers["x-run-id"]
        async with Client(f"unix:{tmp_path}/core.sock") as client, asyncio.timeout(5):
            events = [event async for event in client.runs.watch(run_id)]
            while events[-1].response.status != events_pb2.RUN_STATUS_CANCELED:
                await asyncio.sleep(0.02)
                events = [event async for event in client.runs.watch(run_id)]
