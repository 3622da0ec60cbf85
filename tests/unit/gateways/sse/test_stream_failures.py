"""Silent streams, stopping gateways, unreachable cores, defects, and settings."""

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from portico.core.server.core_server import CoreServer
from portico.gateways.http.sse_stream import StreamReader
from portico.gateways.sse.app import create_app
from portico.gateways.sse.settings import SseSettings

QUIET = {"input": "quiet", "background": True}


async def blocks_of(answer: httpx.Response) -> AsyncIterator[str]:
    """Yields events and comments as they arrive."""
    rest = ""
    async for text in answer.aiter_text():
        rest += text
        while "\n\n" in rest:
            block, _, rest = rest.partition("\n\n")
            yield block
    assert rest == ""


async def test_silence_is_filled_with_pings(serve: Any) -> None:
    http = await serve(ping_seconds=0.05)
    async with http.stream("POST", "/process", json=QUIET) as answer:
        following = blocks_of(answer)
        blocks = [await anext(following) for _ in range(8)]
    assert blocks[-3:] == [": ping"] * 3
    assert [block.partition("\n")[0] for block in blocks[:4]] == [f"id: {number}" for number in range(4)]


async def test_a_silent_run_is_followed_with_a_ping_first(serve: Any) -> None:
    """A reader that returns to a silent run gets a ping at once, which shows that the stream works."""
    http = await serve(ping_seconds=0.05)
    run = (await http.post("/runs", json=QUIET)).json()
    async with http.stream("GET", f"/runs/{run['id']}/events", params={"after": 3}) as answer:
        assert answer.headers["x-run-id"] == run["id"]
        following = blocks_of(answer)
        assert await anext(following) == ": ping"
        ended = await http.post(f"/runs/{run['id']}/cancel")
        assert ended.json()["status"] == "canceled"
        blocks = [block async for block in following]
    assert '"status":"canceled"' in blocks[-1]


async def test_a_gateway_that_stops_ends_its_streams_resumably(serve: Any) -> None:
    http = await serve()
    other = await serve()
    async with http.stream("POST", "/process", json=QUIET) as answer:
        run_id = answer.headers["x-run-id"]
        chunks = answer.aiter_text()
        text = await anext(chunks)
        while "id: 3\n" not in text:
            text += await anext(chunks)
        http.site.stop()
        text += "".join([chunk async for chunk in chunks])
    assert text.endswith("\n\n: this gateway is stopping; resume with your last event id\n\n")
    cancel = asyncio.create_task(other.post(f"/runs/{run_id}/cancel"))
    rest = await other.get(f"/runs/{run_id}/events", headers={"last-event-id": "3"})
    assert rest.text.startswith("id: 4\n")
    assert (await cancel).status_code == 200


@pytest.mark.parametrize("asked", [{**QUIET, "stream": False}, None])
async def test_who_has_nothing_yet_is_sent_elsewhere(serve: Any, asked: dict[str, Any] | None) -> None:
    http = await serve()
    if asked is None:
        run = (await http.post("/runs", json=QUIET)).json()
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(http.get(f"/runs/{run['id']}/events", params={"after": 3}))
    else:
        waiting = asyncio.create_task(http.post("/process", json=asked))
    await asyncio.sleep(0.1)
    http.site.stop()
    answer = await waiting
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "DRAINING")
    assert answer.headers["retry-after"] == "1"
    late = await http.post("/process", json={"input": "echo x"})
    assert (late.status_code, late.json()["error"]["code"]) == (503, "DRAINING")


async def test_without_a_core_calls_are_503(serve: Any, core: CoreServer, tmp_path: Any) -> None:
    http = await serve(core=f"unix:{tmp_path}/nobody.sock", resume_seconds=0.1)
    for answer in (
        await http.post("/process", json={"input": "echo x"}),
        await http.post("/process", json={"input": "echo x", "stream": False}),
        await http.post("/sessions", json={"user_id": "u"}),
        await http.get("/readiness"),
    ):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert set(answer.json()["error"]) == {"code", "message", "details"}
    assert (await http.get("/health")).json()["runner"] == "unavailable"
    assert (await http.get("/liveness")).json() == {"status": "alive"}


async def test_a_stream_whose_core_goes_away_ends_with_an_error_event(serve: Any, core: CoreServer) -> None:
    http = await serve(resume_seconds=0.2)
    async with http.stream("POST", "/process", json=QUIET) as answer:
        chunks = answer.aiter_text()
        text = await anext(chunks)
        stopping = asyncio.create_task(core.stop())
        text += "".join([chunk async for chunk in chunks])
        await stopping
    last = text.removesuffix("\n\n").split("\n\n")[-1]
    assert last.startswith('event: error\ndata: {"error":{"code":"')


async def test_a_defect_is_one_error_with_an_id_to_quote(
    serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    http: httpx.AsyncClient = await serve()

    def broken(*args: Any) -> Any:
        raise RuntimeError("a secret of the code")

    monkeypatch.setattr("portico.gateways.sse.process_endpoint.query_request", broken)
    monkeypatch.setattr("portico.gateways.sse.routes.runs.query_request", broken)
    run = (
        await http.post("/process/task", json={"input": "x"}),
        await http.post("/process", json={"input": "x"}),
    )
    for answer in run:
        assert answer.status_code == 500
        error = answer.json()["error"]
        assert error["code"] == "INTERNAL"
        assert error["details"]["request_id"] in error["message"]
        assert error["details"]["request_id"] in caplog.text
        assert "secret" not in answer.text


async def test_a_defect_within_a_stream_is_an_error_event(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    http: httpx.AsyncClient = await serve()

    def broken(*args: Any) -> Any:
        raise RuntimeError("a secret of the code")

    monkeypatch.setattr("portico.gateways.sse.event_encoding.EventEncoder.encode", broken)
    answer = await http.post("/process", json={"input": "echo x"})
    assert answer.text.startswith('event: error\ndata: {"error":{"code":"INTERNAL"')
    assert "secret" not in answer.text


async def test_cors_is_off_unless_set(serve: Any) -> None:
    origin = {"origin": "https://app.example"}
    preflight = {**origin, "access-control-request-method": "POST"}
    off = await serve()
    on = await serve(cors_origins=["https://app.example"])
    for path in ("/process", "/runs"):
        assert (await off.options(path, headers=preflight)).status_code == 403
        allowed = await on.options(path, headers=preflight)
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    for method, path in (("POST", "/process"), ("GET", "/runs"), ("GET", "/nowhere")):
        assert "access-control-allow-origin" not in (await off.request(method, path, headers=origin)).headers
        told = (await on.request(method, path, headers=origin)).headers
        assert told["access-control-allow-origin"] == "https://app.example"
        assert "x-run-id" in told["access-control-expose-headers"]
    stranger = await on.get("/runs", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers


def test_settings_are_checked() -> None:
    for wrong in ({"process_path": "process"}, {"process_path": "/p/"}, {"ping_seconds": 0}):
        with pytest.raises(ValueError):
            SseSettings(**wrong)
    moved = create_app(SseSettings(process_path="/chat"))
    assert {"/chat", "/chat/task", "/chat/task/{task_id}"} <= set(moved.openapi()["paths"])


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("how", ["streamed", "whole", "left"])
async def test_an_answer_leaves_nothing_to_the_garbage_collector(
    serve: Any, tmp_path: Path, how: str
) -> None:
    """A collection scans the objects of all answers, and delays all of them."""
    http = await serve()
    mark = tmp_path / "mark"
    # By then a task watches for a disconnect of the reader.
    asyncio.get_running_loop().call_later(0.2, mark.touch)
    asked = {"input": f"until {mark}", "stream": how != "whole"}
    async with http.stream("POST", "/process", json=asked) as answer:
        if how == "left":
            await asyncio.sleep(0.15)
        else:
            await answer.aread()
    await asyncio.sleep(0.1)
    assert not [found for found in gc.get_objects() if isinstance(found, StreamReader)]
