"""OpenAI's npm package as a client of Responses, and what kill -9 does to a response."""

import asyncio
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from support.deployment import Deployment

HERE = Path(__file__).parent
AGENT = HERE / "agents" / "chatting.py"
SCRIPT = HERE / "openai_responses.mjs"
ASKED = {"model": "scripted", "input": "forever", "stream": True, "background": True}


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    started = Deployment(AGENT, tmp_path)
    yield started
    started.stop()


async def test_node(deployment: Deployment) -> None:
    node = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    assert node is not None, "no node; run `make dev`"
    process = await asyncio.create_subprocess_exec(
        node,
        str(SCRIPT),
        f"{deployment.url}/v1",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    steps = {step.pop("step"): step for step in map(orjson.loads, out.splitlines())}
    kinds = ["reasoning", "mcp_call", "message", "message"]
    assert steps == {
        "create": {"text": 'It is sunny.{"degrees":21}', "kinds": kinds},
        "stream": {
            "text": 'It is sunny.{"degrees":21}',
            "dense": True,
            "same": True,
            "status": "completed",
        },
        "tool": {"call": "get_weather", "text": "The tool said sunny."},
        "background": {"first": 2, "status": "completed"},
        "conversation": {
            "items": ["message", "message", "reasoning", "mcp_call", "function_call_output"] + ["message"] * 2
        },
        "failed": {"status": "failed", "code": "server_error"},
        "streamed": {"last": "response.failed"},
        "missing": {
            "error": "BadRequestError",
            "code": "previous_response_not_found",
            "param": "previous_response_id",
        },
    }


async def read(http: httpx.AsyncClient, id: str, after: int) -> list[bytes]:
    """The frames behind an event, to the end; comes back when the gateway is not there yet."""
    frames: list[bytes] = []
    while True:
        params = {"stream": "true", **({"starting_after": str(after)} if after >= 0 else {})}
        try:
            async with http.stream("GET", f"/v1/responses/{id}", params=params) as answer:
                if answer.status_code == 200:
                    body = b"".join([chunk async for chunk in answer.aiter_bytes()])
                    frames = [frame for frame in body.split(b"\n\n") if frame and not frame.startswith(b":")]
        except httpx.TransportError:
            pass
        if frames and frames[-1] == b"data: [DONE]":
            return frames
        await asyncio.sleep(0.1)


async def begin(http: httpx.AsyncClient, deployment: Deployment, victim: str) -> tuple[str, list[bytes]]:
    """A response whose stream is cut by a kill; its id, and the frames that came whole."""
    seen, id = b"", ""
    try:
        async with http.stream("POST", "/v1/responses", json=ASKED) as answer:
            id = answer.headers["x-run-id"]
            async for chunk in answer.aiter_bytes():
                seen += chunk
                if seen.count(b"\n\n") > 20:
                    break
            await asyncio.to_thread(deployment.kill, victim)
    except httpx.TransportError:
        pass
    return id, [frame for frame in seen.split(b"\n\n")[:-1] if not frame.startswith(b":")]


async def test_a_killed_gateway_changes_no_byte(deployment: Deployment) -> None:
    async with httpx.AsyncClient(base_url=deployment.url, timeout=30) as http:
        id, seen = await begin(http, deployment, "portico.gateways")
        await asyncio.to_thread(deployment.wait_ready)
        await http.post(f"/v1/responses/{id}/cancel")
        resumed = await read(http, id, len(seen) - 1)
        assert seen + resumed == await read(http, id, -1)


async def test_a_killed_core_fails_the_response_and_voids_nothing_that_was_seen(
    deployment: Deployment,
) -> None:
    async with httpx.AsyncClient(base_url=deployment.url, timeout=30) as http:
        id, seen = await begin(http, deployment, "portico.core")
        whole = await read(http, id, -1)
        assert whole[: len(seen)] == seen
        event, data = whole[-2].split(b"\n")
        assert event == b"event: response.failed"
        response = orjson.loads(data.removeprefix(b"data: "))["response"]
        assert response["status"] == "failed"
        assert (await http.get(f"/v1/responses/{id}")).json() == response
        assert await read(http, id, len(seen) - 1) == whole[len(seen) :]
