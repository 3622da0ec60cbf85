"""Refusals: 400 that names the parameter, 404, 413, 415, limits, and an unreachable core."""

import asyncio
from typing import Any

import httpx
import pytest
from support.response_order import read_frames
from support.serving import Serve

from portico.core.server.core_server import CoreServer
from portico.gateways.openai.responses.request.compaction import compact

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ({"nonsense": 1}, "nonsense", "unknown_parameter"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": []}, "input", "empty_array"),
        ({"input": 3}, "input", "invalid_type"),
        ({"input": [3]}, "input[0]", "invalid_type"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
        ({"input": [{"role": "user", "content": [3]}]}, "input[0].content[0]", "invalid_type"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id", None),
        ({"input": [{"type": "function_call_output", "call_id": "x"}]}, "input[0].output", None),
        ({"input": [{"type": "compaction_trigger"}]}, "input[0]", "unsupported_value"),
        ({"temperature": 3}, "temperature", "decimal_out_of_range"),
        ({"top_p": "x"}, "top_p", "invalid_value"),
        ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value"),
        ({"metadata": {"k": 1}}, "metadata.k", "invalid_type"),
        ({"metadata": {"k" * 65: "v"}}, "metadata", "string_above_max_length"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length"),
        ({"metadata": {str(n): "v" for n in range(17)}}, "metadata", "object_above_max_properties"),
        ({"background": True, "store": False}, "background", "invalid_value"),
        ({"previous_response_id": "a", "conversation": "b"}, "previous_response_id", None),
        ({"previous_response_id": "resp_0"}, "previous_response_id", "previous_response_not_found"),
        ({"conversation": 3}, "conversation", "invalid_type"),
        ({"include": ["nonsense"]}, "include[0]", "invalid_value"),
        ({"tools": [{"name": "x"}]}, "tools[0].type", "missing_required_parameter"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
        ({"tools": [{"type": "mcp"}]}, "tools[0].server_label", "missing_required_parameter"),
        ({"tool_choice": "maybe"}, "tool_choice", "invalid_value"),
        ({"truncation": "x"}, "truncation", "invalid_value"),
        ({"service_tier": "x"}, "service_tier", "invalid_value"),
        ({"moderation": {"model": "x"}}, "moderation", "unsupported_parameter"),
        ({"stream_options": {}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unknown_parameter"),
        ({"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options.prewarm", None),
        ({"instructions": 3}, "instructions", "invalid_type"),
    ],
)
async def test_a_wrong_parameter_is_named(
    http: httpx.AsyncClient, given: dict[str, Any], param: str, code: str | None
) -> None:
    answer = await http.post("/v1/responses", json={"model": "scripted", "input": "echo x", **given})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    if code is not None:
        assert error["code"] == code
    assert answer.headers["x-request-id"].startswith("req_")


async def test_other_refusals(http: httpx.AsyncClient) -> None:
    body = {"model": "nobody", "input": "x"}
    for stream in (False, True):
        answer = await http.post("/v1/responses", json={**body, "stream": stream})
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"
        assert "scripted, player" in answer.json()["error"]["message"]
    assert (await http.get("/v1/responses/resp_0")).json()["error"]["code"] == "response_not_found"
    assert (await http.get("/v1/responses/resp_0", params={"stream": True})).status_code == 404
    assert (await http.get("/v1/responses")).status_code == 405
    assert (await http.get("/v1/nothing")).json()["error"]["code"] == "unknown_url"
    assert (await http.post("/v1/responses", content=b"{")).status_code == 415
    json_type = {"content-type": "application/json"}
    assert (await http.post("/v1/responses", content=b"{", headers=json_type)).status_code == 400
    large = await http.post("/v1/responses", json={"input": "x" * 200_000})
    assert large.status_code == 413
    assert (await http.get("/v1/conversations/conv_0/items", params={"limit": 101})).status_code == 400
    query = await http.get("/v1/responses/resp_0/input_items", params={"limit": 0})
    assert query.json()["error"]["param"] == "limit"


def nested(depth: int) -> str:
    return '{"x":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("depth", [127, 251, 700])
@pytest.mark.parametrize("name", ["tools", "input", "metadata", "text", "prompt", "reasoning", "nonsense"])
async def test_what_is_nested_too_deeply_is_named(http: httpx.AsyncClient, name: str, depth: int) -> None:
    value = nested(depth)
    if name in ("tools", "input"):
        kind = "function_call_output" if name == "input" else "function"
        inside = "output" if name == "input" else "parameters"
        value = f'[{{"type": "{kind}", "name": "f", "call_id": "c", "{inside}": {value}}}]'
    members = {"model": '"scripted"', "input": '"echo x"', name: value}
    body = ",".join(f'"{member}": {value}' for member, value in members.items())
    answer = await http.post(
        "/v1/responses", content=f"{{{body}}}", headers={"content-type": "application/json"}
    )
    if answer.status_code == 200:
        assert depth == 127
        assert (await http.get(f"/v1/responses/{answer.json()['id']}")).status_code == 200
        return
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].partition(".")[0] == name


async def test_a_compaction_that_is_nested_too_deeply_is_refused(http: httpx.AsyncClient) -> None:
    deep: Any = 1
    for _ in range(240):
        deep = [deep]
    item = {"type": "compaction", "encrypted_content": compact([{"type": "x", "y": deep}])}
    answer = await http.post("/v1/responses", json={"input": [item]})
    assert answer.json()["error"]["param"] == "input[0].encrypted_content"


async def test_a_cursor_beyond_the_end_is_an_error_event(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/responses", json={"model": "scripted", "input": "echo x"})
    id = answer.json()["id"]
    path = f"/v1/responses/{id}"
    beyond = await http.get(path, params={"stream": True, "starting_after": 1000})
    (event,) = read_frames(beyond.content)
    assert event["type"] == "error"
    assert event["code"] == "cursor_ahead"
    events = read_frames((await http.get(path, params={"stream": True})).content)
    last = events[-1]["sequence_number"]
    at_the_end = await http.get(path, params={"stream": True, "starting_after": last})
    assert at_the_end.content == b"data: [DONE]\n\n"
    assert (await http.get(path, params={"starting_after": 1})).status_code == 400


async def test_a_live_response_is_not_deleted(http: httpx.AsyncClient) -> None:
    body = {"model": "scripted", "input": "quiet", "background": True}
    id = (await http.post("/v1/responses", json=body)).json()["id"]
    answer = await http.delete(f"/v1/responses/{id}")
    assert answer.status_code == 409
    assert answer.headers["x-should-retry"] == "false"
    await http.post(f"/v1/responses/{id}/cancel")
    assert (await http.delete(f"/v1/responses/{id}")).json()["deleted"] is True


async def test_openapi_is_complete(http: httpx.AsyncClient) -> None:
    schema = (await http.get("/v1/openapi.json")).json()
    paths = schema["paths"]
    for path in (
        "/v1/responses",
        "/v1/responses/{response_id}",
        "/v1/responses/{response_id}/cancel",
        "/v1/responses/{response_id}/input_items",
        "/v1/responses/input_tokens",
        "/v1/responses/compact",
        "/v1/conversations",
        "/v1/conversations/{conversation_id}",
        "/v1/conversations/{conversation_id}/items",
        "/v1/conversations/{conversation_id}/items/{item_id}",
        "/v1/chat/completions",
        "/v1/models",
    ):
        assert path in paths
    members = paths["/v1/responses"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "previous_response_id" in members["properties"]
    assert not [name for name in _references(schema) if name not in schema["components"]["schemas"]]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"].rpartition("/")[2]] if isinstance(value.get("$ref"), str) else []
        return own + [name for item in value.values() for name in _references(item)]
    return [name for item in value for name in _references(item)] if isinstance(value, list) else []


@pytest.mark.asyncio(loop_scope="function")
async def test_a_core_that_goes_away_in_mid_stream_is_an_error_event(serve: Serve, core: CoreServer) -> None:
    http = await serve(resume_seconds=0.1)
    body = {"model": "scripted", "input": "quiet", "stream": True}
    async with http.stream("POST", "/v1/responses", json=body) as answer:
        chunks = answer.aiter_bytes()
        await anext(chunks)
        await core.stop()
        rest = b"".join([chunk async for chunk in chunks])
    assert b"event: error" in rest
    refused = await http.post("/v1/responses", json={**body, "input": "echo x"})
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"


@pytest.mark.asyncio(loop_scope="function")
async def test_a_gateway_that_stops_ends_its_streams(serve: Serve) -> None:
    http = await serve()
    body = {"model": "scripted", "input": "quiet", "stream": True}
    async with http.stream("POST", "/v1/responses", json=body) as answer:
        chunks = answer.aiter_bytes()
        await anext(chunks)
        http.site.stop()  # type: ignore[attr-defined]
        rest = b"".join([chunk async for chunk in chunks])
    assert b'"code":"draining"' in rest


@pytest.mark.asyncio(loop_scope="function")
async def test_silence_is_filled_with_comments(serve: Serve) -> None:
    http = await serve(ping_seconds=0.05)
    body = {"model": "scripted", "input": "quiet", "stream": True}
    async with http.stream("POST", "/v1/responses", json=body) as answer:
        async for chunk in answer.aiter_bytes():
            if b": ping\n\n" in chunk:
                break


@pytest.mark.asyncio(loop_scope="function")
async def test_another_gateway_resumes_byte_for_byte(serve: Serve) -> None:
    one, other = await serve(), await serve()
    body = {"model": "scripted", "input": "slow a b c d e", "stream": True, "background": True}
    seen = b""
    async with one.stream("POST", "/v1/responses", json=body) as answer:
        id = answer.headers["x-run-id"]
        async for chunk in answer.aiter_bytes():
            seen += chunk
            if seen.count(b"\n\n") > 5:
                break
    frames = seen.split(b"\n\n")[:-1]
    path = f"/v1/responses/{id}"
    rest = await other.get(path, params={"stream": True, "starting_after": len(frames) - 1})
    await asyncio.sleep(0)
    whole = await other.get(path, params={"stream": True})
    assert b"\n\n".join(frames) + b"\n\n" + rest.content == whole.content


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/responses/compact", "POST"),
        ("/v1/responses/resp_1", "DELETE, GET"),
        ("/v1/conversations/conv_1", "DELETE, GET, POST"),
        ("/v1/responses", "POST"),
    ],
)
async def test_a_wrong_method_is_told_which_there_are(
    http: httpx.AsyncClient, path: str, methods: str
) -> None:
    answer = await http.patch(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)
