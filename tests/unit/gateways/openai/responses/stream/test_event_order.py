"""For any output of an agent, the stream keeps every order rule, and all ways to read it agree."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.response_order import check_order, read_frames

from portico.agent import (
    AgentError,
    Delta,
    Message,
    MessageType,
    Role,
    audio,
    data,
    file,
    function_call,
    image,
    new_message,
    reasoning,
    refusal,
    text,
    tool_call,
    tool_call_delta,
    tool_output,
    usage,
    video,
)

from ..conftest import SCRIPTS, run_core, run_gateway

TEXT = st.text(max_size=12)
NAME = st.sampled_from(["get", "run", "custom", ""])
CALL_ID = st.sampled_from(["", "a", "b", "c"])
ARGUMENTS: st.SearchStrategy[Any] = st.one_of(st.just({}), st.just({"x": 1}), TEXT)
TOOLS = (MessageType.PLUGIN_CALL, MessageType.COMPONENT_CALL, MessageType.MCP_CALL)
OUTPUTS = (
    MessageType.PLUGIN_CALL_OUTPUT,
    MessageType.COMPONENT_CALL_OUTPUT,
    MessageType.MCP_CALL_OUTPUT,
    MessageType.FUNCTION_CALL_OUTPUT,
)
DATA = st.one_of(
    st.just({"x": [1, None]}),
    st.just({"server_label": "s", "tools": [{"name": "t", "input_schema": {}}]}),
    st.just({"id": "apr_1", "name": "t", "arguments": "{}", "server_label": "s"}),
    st.just({"approval_request_id": "apr_1", "approve": True}),
    st.just({"call_id": "a", "name": "n", "error": "no", "output": {"x": 1}}),
)
CONTENT = st.one_of(
    TEXT.map(text),
    DATA.map(data),
    TEXT.map(refusal),
    st.just(image("https://x/y.png")),
    st.just(audio("UklG", "wav")),
    st.just(video("https://x/y.mp4")),
    st.just(file(url="https://x/f.pdf", name="f [1].pdf")),
)
ITEM = st.one_of(
    TEXT,
    TEXT.map(reasoning),
    st.builds(Delta, TEXT, st.sampled_from(list(MessageType))),
    st.just(new_message()),
    CONTENT,
    st.builds(lambda n, a, c: function_call(n, a, call_id=c), NAME, ARGUMENTS, CALL_ID),
    st.builds(
        lambda n, a, c, t: tool_call(n, a, call_id=c, type=t),
        NAME,
        ARGUMENTS,
        CALL_ID,
        st.sampled_from(TOOLS),
    ),
    st.builds(
        lambda c, n, a, t: tool_call_delta(c, n, a, type=t),
        CALL_ID,
        NAME,
        TEXT,
        st.sampled_from([*TOOLS, MessageType.FUNCTION_CALL]),
    ),
    st.builds(lambda c, o, t: tool_output(c, o, type=t), CALL_ID, TEXT, st.sampled_from(OUTPUTS)),
    st.builds(
        lambda role, content, kind, id: Message(role, tuple(content), kind, id),
        st.sampled_from(list(Role)),
        st.lists(CONTENT, max_size=3),
        st.sampled_from(list(MessageType)),
        st.sampled_from(["", "", "msg_own"]),
    ),
    st.just(usage(input_tokens=1, output_tokens=2)),
)
END = st.sampled_from([None, None, AgentError("no", code="QUOTA"), AgentError("", code="max_tokens")])


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def client(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.AsyncClient]:
    stack = AsyncExitStack()
    directory = tmp_path_factory.mktemp("core")

    async def start() -> httpx.AsyncClient:
        await stack.enter_async_context(run_core(directory))
        return await stack.enter_async_context(run_gateway(directory))

    yield runner.run(start())
    runner.run(stack.aclose())


def _deep(kind: MessageType, **more: Any) -> Message:
    value: Any = "x"
    for _ in range(251):
        value = [value]
    return Message(content=(data({**more, "tools": value, "error": value, "reason": value}),), type=kind)


@example(items=[_deep(kind, call_id="a", name="n") for kind in MessageType], end=None, summary=False)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=st.lists(ITEM, max_size=12), end=END, summary=st.booleans())
def test_any_output(
    runner: asyncio.Runner,
    client: httpx.AsyncClient,
    items: list[Any],
    end: Exception | None,
    summary: bool,
) -> None:
    key = uuid4().hex
    SCRIPTS[key] = [*items] if end is None else [*items, end]
    body: dict[str, Any] = {
        "model": "player",
        "input": key,
        "tools": [{"type": "custom", "name": "custom"}],
        "reasoning": {"summary": "auto"} if summary else {},
    }

    async def ask() -> tuple[bytes, bytes, bytes, dict[str, Any], dict[str, Any]]:
        live = await client.post("/v1/responses", json={**body, "stream": True})
        assert live.status_code == 200, live.text
        id = live.headers["x-run-id"]
        replayed = await client.get(f"/v1/responses/{id}", params={"stream": True})
        tail = await client.get(f"/v1/responses/{id}", params={"stream": True, "starting_after": 1})
        stored = await client.get(f"/v1/responses/{id}")
        whole = await client.post("/v1/responses", json=body)
        return live.content, replayed.content, tail.content, stored.json(), whole.json()

    live, replayed, tail, stored, whole = runner.run(ask())
    final = check_order(read_frames(live))
    assert replayed == live
    assert tail == b"\n\n".join(live.split(b"\n\n")[2:])
    assert stored == final
    # Another run of the same script is equal except for ids and times.
    assert _nameless(whole) == _nameless(final)


def _nameless(value: Any) -> Any:
    told = {**value, "id": "", "created_at": 0, "completed_at": 0}
    for item in told["output"]:
        item["id"] = ""
        if "call_id" in item:
            item["call_id"] = ""
    return orjson.loads(orjson.dumps(told))
