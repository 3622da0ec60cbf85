"""OpenAI's npm package as a client of Responses, and the effects of kill -9 on a response."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from support.deployment import Deployment
from support.programs import node, steps

HERE = Path(__file__).parent
AGENT = HERE / "agents" / "chatting.py"
ASKED = {"model": "scripted", "input": "forever", "stream": True, "background": True}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    started = Deployment(AGENT, tmp_path_factory.mktemp("responses"))
    yield started
    started.stop()


async def test_node(deployment: Deployment) -> None:
    kinds = ["reasoning", "mcp_call", "message", "message"]
    text = 'It is sunny.{"degrees":21}'
    counted = "".join(f"{number} " for number in range(40))
    missing = {"error": "NotFoundError", "code": "response_not_found", "param": None}
    nothing_before = {
        "error": "BadRequestError",
        "code": "previous_response_not_found",
        "param": "previous_response_id",
    }
    said = ["one", "two", "three", "four", "echo five", "five", "history"]
    assert await steps(node(), HERE / "openai_responses.mjs", f"{deployment.url}/v1") == {
        "create": {"text": text, "kinds": kinds},
        "stream": {"text": text, "dense": True, "same": True, "status": "completed"},
        "parse": {
            "plain": {"degrees": 21},
            "streamed": {"degrees": 22},
            "snapshot": '{"degrees": 22}',
            "wrong": "ZodError",
        },
        "tool": {"call": "get_weather", "text": "The tool said sunny."},
        "parsed tool": {"parsed": {"city": "Paris"}, "snapshot": {"city": "Paris"}},
        "runner": {"text": "The tool said sunny in Paris."},
        "streamed runner": {"text": "The tool said sunny in Paris."},
        "background": {"first": 2, "status": "completed"},
        "resume": {"gapless": True, "same": True, "text": counted, "status": "completed"},
        "cancel": {
            "statuses": ["cancelled"] * 3,
            "stored": "cancelled",
            "foreground": {"error": "BadRequestError", "code": "invalid_request", "param": "response_id"},
        },
        "delete": {"deleted": True, "after": missing},
        "input items": {
            "all": ["one", "two", "three", "four", "echo five"],
            "newest": ["echo five", "four"],
            "older": ["three", "two"],
            "more": True,
        },
        "tokens": {"alone": 104, "chained": True},
        "compact": {"kinds": ["compaction"], "history": said},
        "chain": {"history": said},
        "unstored": {
            "text": "once",
            "store": False,
            "continued": nothing_before,
            "items": missing,
            "retrieved": missing,
        },
        "failed": {"status": "failed", "code": "server_error"},
        "streamed": {"last": "response.failed", "helper": "failed"},
        "missing": nothing_before,
        "no agent": {"error": "NotFoundError", "code": "model_not_found", "param": "model"},
    }


async def test_node_conversations(deployment: Deployment) -> None:
    kinds = ["message", "message", "reasoning", "mcp_call", "function_call_output", "message", "message"]
    missing = {"error": "NotFoundError", "param": "conversation"}
    assert await steps(node(), HERE / "openai_conversations.mjs", f"{deployment.url}/v1") == {
        "conversation": {"same": True, "before": {"topic": "x"}, "after": {"topic": "y"}},
        "items": {"kinds": kinds, "same": True},
        "newest": {"id": True, "more": True},
        "created": {"texts": ["look", "I do"], "read": "look"},
        "deleted item": {
            "conversation": True,
            "gone": {"error": "NotFoundError", "param": "item_id"},
            "left": 8,
        },
        "history": {
            "said": ["hello", "rich", "Let me think.", "", "", "It is sunny.", "", "I do", "history"],
            "conversation": True,
        },
        "deleted": {
            "deleted": True,
            "retrieve": missing,
            "use": missing,
            "both": {"error": "BadRequestError", "param": "previous_response_id"},
        },
    }


async def test_node_on_a_websocket(deployment: Deployment) -> None:
    counted = "".join(f"{number} " for number in range(40))
    assert await steps(node(), HERE / "openai_socket.mjs", f"{deployment.url}/v1") == {
        "sequence": {
            "kinds": [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.content_part.added",
                "response.output_text.delta",
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.completed",
            ],
            "dense": True,
            "history": ["echo one", "one", "history"],
            "stored": True,
        },
        "unstored": {"history": ["echo kept here", "kept here", "history"]},
        "error": {
            "type": "error",
            "status": 400,
            "code": "previous_response_not_found",
            "param": "previous_response_id",
        },
        "steer": {"accepted": True, "reason": "steered", "follows": True, "text": "heard turn left"},
        "late": {"code": "response_already_completed"},
        "lanes": {"order": ["quick", "slow"], "texts": [counted, "quick"]},
        "closed": {},
    }


async def read(http: httpx.AsyncClient, id: str, after: int) -> list[bytes]:
    """Reads the frames after an event, to the end; retries until the gateway is available."""
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
    """Starts a response whose stream is cut by a kill; returns its id and the complete frames."""
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
