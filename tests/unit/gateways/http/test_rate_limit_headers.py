"""Every HTTP gateway reports the caller's rate limits, on success and when they are exceeded."""

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
from support.a2a_gateways import scripted_agents
from support.identity import Callers, guarded_core
from support.serving import running_site, settings_in

from portico.client import Client, Multiplexer, RateLimit, ResourceExhausted, observing, query_request
from portico.gateways.gateway_registry import GATEWAYS
from portico.gateways.http.settings import HttpSettings
from portico.gateways.openai.rate_headers import duration

pytestmark = pytest.mark.asyncio(loop_scope="module")

PER_USER, PER_TENANT = 3, 500
A2A = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "echo hi"}]}}
A2A_HEADERS = {"a2a-version": "1.0"}
MCP = {"accept": "application/json, text/event-stream"}
SSE_BODY = {"input": [{"role": "user", "content": [{"type": "text", "text": "echo hi"}]}]}
# For each gateway a request that streams and one that does not.
REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sse stream": ("POST", "/process", {"json": SSE_BODY}),
    "sse": ("GET", "/runs", {}),
    "sse of a run that is not there": ("GET", "/runs/resp_none", {}),
    "openai stream": (
        "POST",
        "/v1/responses",
        {"json": {"model": "scripted", "input": "echo hi", "stream": True}},
    ),
    "openai": ("POST", "/v1/responses", {"json": {"model": "scripted", "input": "echo hi"}}),
    "openai chat": (
        "POST",
        "/v1/chat/completions",
        {"json": {"model": "scripted", "messages": [{"role": "user", "content": "echo hi"}]}},
    ),
    "openai models": ("GET", "/v1/models", {}),
    "a2a stream": ("POST", "/a2a/message:stream", {"json": A2A, "headers": A2A_HEADERS}),
    "a2a rpc": (
        "POST",
        "/a2a",
        {
            "json": {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": A2A},
            "headers": A2A_HEADERS,
        },
    ),
    "a2a": ("POST", "/a2a/message:send", {"json": A2A, "headers": A2A_HEADERS}),
    "mcp": (
        "POST",
        "/mcp",
        {
            "json": {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "tools/call",
                "params": {"name": "run_python", "arguments": {"code": "1"}},
            },
            "headers": MCP,
        },
    ),
}


class World:
    def __init__(self, core: Callers, http: httpx.AsyncClient) -> None:
        self.core = core
        self.http = http
        self._users = 0

    async def credential(self) -> str:
        """Returns the credential of a user that has not made any call."""
        self._users += 1
        return await self.core.key(f"user{self._users}", "acme")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    directory = tmp_path_factory.mktemp("rates")
    # The clock is stopped, so that no tokens are refilled on a busy machine.
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(
        "portico.core.services.rpc.rate_limits.time", SimpleNamespace(monotonic=lambda: 1000.0)
    )
    limits = {"user_requests": PER_USER, "tenant_requests": PER_TENANT}
    async with guarded_core(scripted_agents(), directory, sandbox_backend="none", **limits) as core:
        gateways = [kind.factory()(kind.settings()(**settings_in(directory))) for kind in GATEWAYS.values()]
        async with (
            running_site(gateways, HttpSettings(**settings_in(directory))) as (url, _),
            httpx.AsyncClient(base_url=url, timeout=30) as http,
        ):
            yield World(core, http)
    monkeypatch.undo()


async def ask(world: World, name: str, credential: str) -> httpx.Response:
    # The operator's own calls, which create keys, count too.
    method, path, more = REQUESTS[name]
    headers = {"authorization": f"Bearer {credential}", **more.get("headers", {})}
    return await world.http.request(method, path, json=more.get("json"), headers=headers)


async def use_up(world: World, name: str, credential: str) -> httpx.Response:
    """Sends requests until the limit is reached."""
    for _ in range(PER_USER + 1):
        answer = await ask(world, name, credential)
        if answer.status_code == 429 or "LIMIT_EXCEEDED" in answer.text:
            break
    return answer


def forget(world: World) -> None:
    """Fills all buckets again."""
    world.core.server._authentication._rates._buckets.clear()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", REQUESTS)
async def test_what_is_left_is_told_with_every_answer(world: World, name: str) -> None:
    forget(world)
    credential = await world.credential()
    answer = await ask(world, name, credential)
    assert answer.status_code == (404 if "not there" in name else 200), answer.text
    policy, left = answer.headers["ratelimit-policy"], answer.headers["ratelimit"]
    assert policy == f'"tenant";q={PER_TENANT};w=1, "user";q={PER_USER};w=1'
    told = re.fullmatch(r'"tenant";r=(\d+);t=1, "user";r=([012]);t=1', left)
    assert told is not None, left
    assert answer.headers.get_list("ratelimit") == [left]
    if name.startswith("openai"):
        assert answer.headers["x-ratelimit-limit-requests"] == str(PER_USER)
        assert answer.headers["x-ratelimit-remaining-requests"] == told[2]
        assert re.fullmatch(r"\d+ms|1(\.\d+)?s", answer.headers["x-ratelimit-reset-requests"])
    else:
        assert not any(header.startswith("x-ratelimit") for header in answer.headers)


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_call_too_many_is_told_so_with_when_there_is_room(world: World, name: str) -> None:
    credential = await world.credential()
    forget(world)
    answer = await use_up(world, name, credential)
    assert '"user";r=0;t=1' in answer.headers["ratelimit"]
    if name != "mcp":  # MCP's errors are JSON-RPC's
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
    if name.startswith("openai"):
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"


async def test_openais_sdk_reads_them(world: World) -> None:
    credential = await world.credential()
    forget(world)
    async with openai.AsyncOpenAI(
        api_key=credential, base_url=f"{world.http.base_url}/v1", max_retries=0
    ) as sdk:
        raw = await sdk.responses.with_raw_response.create(model="scripted", input="echo hi")
        assert raw.headers["x-ratelimit-limit-requests"] == str(PER_USER)
        for _ in range(2):
            await use_up(world, "openai models", credential)
        with pytest.raises(openai.RateLimitError) as caught:
            await sdk.responses.create(model="scripted", input="echo hi")
    headers = caught.value.response.headers
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["retry-after"] == "1"


async def test_a_python_client_is_told_of_calls_and_streams(world: World) -> None:
    credential = await world.credential()
    forget(world)
    told: list[Sequence[RateLimit]] = []
    async with Client(world.core.target, credential=credential) as client, Multiplexer(client) as streams:
        with observing(told.append):
            await client.runs.list().page()
            request = query_request("echo hi", agent="scripted")
            metadata = {"authorization": f"Bearer {credential}"}
            with streams.open_query(request, metadata=metadata) as stream:
                async for _ in stream:
                    pass
            await client.runs.list().page()
            with pytest.raises(ResourceExhausted):
                await client.runs.list().page()
        before = len(told)
        with pytest.raises(ResourceExhausted):
            await client.runs.list().page()
        assert len(told) == before
    users = [next(one for one in limits if one.name == "user") for limits in told]
    assert [one.remaining for one in users][:2] == [2, 1]
    assert users[-1].remaining == 0
    assert all((one.limit, one.window_seconds) == (PER_USER, 1) for one in users)
    assert all(0 < one.available_seconds <= 1 / PER_USER + 0.001 for one in users)


async def test_without_limits_nothing_is_told(tmp_path: Path) -> None:
    async with guarded_core(scripted_agents(), tmp_path, sandbox_backend="none") as core:
        gateways = [kind.factory()(kind.settings()(**settings_in(tmp_path))) for kind in GATEWAYS.values()]
        async with (
            running_site(gateways, HttpSettings(**settings_in(tmp_path))) as (url, _),
            httpx.AsyncClient(base_url=url, timeout=30) as http,
        ):
            world = World(core, http)
            credential = await world.credential()
            for name in REQUESTS:
                answer = await ask(world, name, credential)
                assert not any("ratelimit" in header for header in answer.headers), name


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.12, "120ms"), (1, "1s"), (1.5, "1.5s"), (360, "6m0s"), (7200.25, "2h0m0.25s")],
)
async def test_a_duration_is_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text
