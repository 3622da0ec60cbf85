"""POST /chat/completions on the wire: exact chunks and objects, input of the agent, errors, disconnects."""

from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from portico.client import Client

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/chat/completions"


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": text}], **more}


def frames(text: str) -> list[str]:
    """Returns the data of a whole stream, without the [DONE] that must end it."""
    found = text.removesuffix("\n\n").split("\n\n")
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in found)
    assert found[-1] == "data: [DONE]"
    return [frame.removeprefix("data: ") for frame in found[:-1]]


async def chunks(http: httpx.AsyncClient, text: str, **more: Any) -> list[dict[str, Any]]:
    answer = await http.post(PATH, json=body(text, stream=True, **more))
    assert answer.status_code == 200, answer.text
    return [orjson.loads(frame) for frame in frames(answer.text)]


async def deltas(http: httpx.AsyncClient, text: str, **more: Any) -> list[dict[str, Any]]:
    """Returns all deltas except the first, with the role, and the last, which is empty."""
    found = [chunk["choices"][0]["delta"] for chunk in await chunks(http, text, **more)]
    assert found[0] == {"role": "assistant", "content": "", "refusal": None}
    assert found[-1] == {}
    return found[1:-1]


async def whole(http: httpx.AsyncClient, text: str, **more: Any) -> dict[str, Any]:
    answer = await http.post(PATH, json=body(text, **more))
    assert answer.status_code == 200, answer.text
    value: dict[str, Any] = answer.json()
    return value


async def told(http: httpx.AsyncClient, **more: Any) -> Any:
    """Returns the request as the agent reports it."""
    return orjson.loads((await whole(http, "request", **more))["choices"][0]["message"]["content"])


async def test_a_stream_exactly(http: httpx.AsyncClient) -> None:
    answer = await http.post(PATH, json=body("words a b", stream=True))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-request-id"].startswith("req_")
    run_id = answer.headers["x-run-id"]
    created = orjson.loads(frames(answer.text)[0])["created"]
    head = (
        f'{{"id":"chatcmpl-{run_id.removeprefix("resp_")}","object":"chat.completion.chunk",'
        f'"created":{created},"model":"scripted","choices":[{{"index":0,"delta":'
    )
    rest = ',"logprobs":null,"finish_reason":null}]}'
    assert frames(answer.text) == [
        head + '{"role":"assistant","content":"","refusal":null}' + rest,
        head + '{"content":"a"}' + rest,
        head + '{"content":"b"}' + rest,
        head + "{}" + rest.replace("null}]", '"stop"}]'),
    ]


async def test_usage_comes_in_a_chunk_of_its_own_when_asked_for(http: httpx.AsyncClient) -> None:
    found = await chunks(http, "rich", stream_options={"include_usage": True})
    assert all(chunk["usage"] is None for chunk in found[:-1])
    assert found[-1]["choices"] == []
    assert found[-1]["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    same = ("id", "created", "model", "object")
    assert len({tuple(chunk[name] for name in same) for chunk in found}) == 1
    assert all("usage" not in chunk for chunk in await chunks(http, "rich"))


async def test_a_whole_answer_exactly(http: httpx.AsyncClient) -> None:
    answer = await http.post(PATH, json=body("rich", metadata={"a": "b"}))
    value = answer.json()
    assert value == {
        "id": "chatcmpl-" + answer.headers["x-run-id"].removeprefix("resp_"),
        "object": "chat.completion",
        "created": value["created"],
        "model": "scripted",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": 'It is sunny.\n\n{"degrees":21}',
                    "refusal": None,
                    "annotations": [],
                    "reasoning_content": "Let me think.",
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 5,
            "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
        "service_tier": "default",
        "system_fingerprint": None,
        "metadata": {"a": "b"},
    }


async def test_thoughts_messages_and_data(http: httpx.AsyncClient) -> None:
    assert await deltas(http, "rich") == [
        {"reasoning_content": "Let me "},
        {"reasoning_content": "think."},
        {"content": "It is "},
        {"content": "sunny."},
        {"content": "\n\n"},
        {"content": '{"degrees":21}'},
    ]


async def test_contents_that_a_text_cannot_hold(http: httpx.AsyncClient) -> None:
    expected = (
        "See:\n\n![image](https://x/i.png)\n\nand hear\n\n[audio](data:audio/mp3;base64,UklG)\n\n"
        "[video](https://x/v.mp4)\n\n[f.pdf](https://x/f.pdf)"
    )
    assert "".join(delta["content"] for delta in await deltas(http, "contents")) == expected
    assert (await whole(http, "contents"))["choices"][0]["message"]["content"] == expected


async def test_a_refusal(http: httpx.AsyncClient) -> None:
    assert await deltas(http, "refuse") == [{"refusal": "I would rather not."}]
    choice = (await whole(http, "refuse"))["choices"][0]
    assert (choice["message"]["refusal"], choice["message"]["content"]) == ("I would rather not.", None)


async def test_calls_for_the_caller(http: httpx.AsyncClient) -> None:
    found = await chunks(http, "call first second")

    def opened(index: int, name: str) -> dict[str, Any]:
        function = {"name": name, "arguments": ""}
        call = {"index": index, "id": f"call_{name}", "type": "function", "function": function}
        return {"tool_calls": [call]}

    def filled(index: int) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, "function": {"arguments": '{"city": "Paris"}'}}]}

    assert [chunk["choices"][0]["delta"] for chunk in found[1:]] == [
        opened(0, "first"),
        filled(0),
        opened(1, "second"),
        filled(1),
        {},
    ]
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"
    choice = (await whole(http, "call first"))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {
            "id": "call_first",
            "type": "function",
            "function": {"name": "first", "arguments": '{"city": "Paris"}'},
        }
    ]


async def test_an_answer_of_nothing(http: httpx.AsyncClient) -> None:
    assert await deltas(http, "nothing") == []
    choice = (await whole(http, "nothing"))["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "stop")
    assert (await whole(http, "nothing"))["usage"]["total_tokens"] == 0


async def test_a_question_is_an_answer(http: httpx.AsyncClient) -> None:
    expected = "A question.\n\nWhich city?"
    found = await chunks(http, "ask")
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in found) == expected
    assert found[-1]["choices"][0]["finish_reason"] == "stop"
    choice = (await whole(http, "ask"))["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (expected, "stop")


@pytest.mark.parametrize(
    ("code", "finish"),
    [("length", "length"), ("max_output_tokens", "length"), ("content_filter", "content_filter")],
)
async def test_an_agent_that_stops_short(http: httpx.AsyncClient, code: str, finish: str) -> None:
    assert (await chunks(http, f"fail {code}"))[-1]["choices"][0]["finish_reason"] == finish
    choice = (await whole(http, f"fail {code}"))["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("so far", finish)


async def test_a_failed_run_is_an_error(http: httpx.AsyncClient) -> None:
    message = "Unknown agent error: ValueError: boom"
    error = {"message": message, "type": "server_error", "param": None, "code": "AGENT_UNKNOWN_ERROR"}
    answer = await http.post(PATH, json=body("boom"))
    assert (answer.status_code, answer.json()) == (500, {"error": error})
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-run-id"].startswith("resp_")
    stream = await http.post(PATH, json=body("boom", stream=True, stream_options={"include_usage": True}))
    *_, said, last = frames(stream.text)
    assert orjson.loads(said)["choices"][0]["delta"] == {"content": "I begin"}
    assert orjson.loads(last) == {"error": error}


@pytest.mark.parametrize(
    ("text", "status", "code", "retry"),
    [
        ("reject", 422, "closed", None),
        ("fail rate_limit_exceeded", 429, "rate_limit_exceeded", None),
        ("fail context_length_exceeded", 400, "context_length_exceeded", None),
        ("fail OWN", 500, "OWN", "false"),
    ],
)
async def test_how_a_run_failed(
    http: httpx.AsyncClient, text: str, status: int, code: str, retry: str | None
) -> None:
    answer = await http.post(PATH, json=body(text))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers.get("x-should-retry") == retry
    assert ("retry-after" in answer.headers) == (status == 429)


async def test_parameters_reach_the_agent(http: httpx.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    function = {"name": "get_weather", "description": "It.", "parameters": schema, "strict": True}
    tool = {"type": "function", "function": function}
    custom = {"type": "custom", "custom": {"name": "code", "format": {"type": "text"}}}
    asked = await told(
        http,
        temperature=0.5,
        top_p=1,
        frequency_penalty=0,
        presence_penalty=-1.5,
        max_completion_tokens=10,
        stop="END",
        seed=7,
        n=1,
        user="anna",
        metadata={"team": "a"},
        tools=[tool, custom],
        tool_choice="auto",
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        reasoning_effort="low",
        logit_bias={"1": 2},
        not_of_openai=[1],
    )
    assert asked == {
        "agent": "scripted",
        "user_id": "anna",
        "parameters": {
            "temperature": 0.5,
            "top_p": 1.0,
            "frequency_penalty": 0.0,
            "presence_penalty": -1.5,
            "max_tokens": 10,
            "stop": ["END"],
            "seed": 7,
        },
        "tools": [["get_weather", "function", schema, tool], ["code", "custom", {}, custom]],
        "extra": {
            "tool_choice": "auto",
            "parallel_tool_calls": False,
            "response_format": {"type": "json_object"},
            "reasoning_effort": "low",
            "logit_bias": {"1": 2},
            "not_of_openai": [1],
        },
        "metadata": {"team": "a"},
    }
    assert (await told(http, safety_identifier="b"))["user_id"] == "b"
    assert (await told(http, max_tokens=3))["parameters"] == {"max_tokens": 3}


async def test_models_are_agents(http: httpx.AsyncClient) -> None:
    assert (await whole(http, "x", model="other"))["choices"][0]["message"]["content"] == "the other, None"
    for streaming in (False, True):
        answer = await http.post(PATH, json=body("x", model="gpt-9", stream=streaming))
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert "'gpt-9'" in error["message"]
        assert "scripted, other" in error["message"]
        assert answer.headers["x-request-id"]


async def test_under_the_compatible_path_a_model_may_be_a_wish(http: httpx.AsyncClient) -> None:
    compatible = f"/compatible-mode{PATH}"
    for model, expected in (("qwen-max", {"model": "qwen-max"}), ("scripted", {}), (None, {})):
        value = (await http.post(compatible, json=body("request", model=model))).json()
        asked = orjson.loads(value["choices"][0]["message"]["content"])
        assert (asked["agent"], asked["parameters"]) == ("scripted", expected)
    value = (await http.post(compatible, json=body("x", model="other"))).json()
    assert value["choices"][0]["message"]["content"] == "the other, None"
    assert value["model"] == "other"


async def test_what_is_not_stored_is_not_there(http: httpx.AsyncClient, tmp_path: Path) -> None:
    site: Any = http.site  # type: ignore[attr-defined]
    client = Client(site.settings.core)
    try:
        kept = await http.post(PATH, json=body("echo x", store=True))
        gone = await http.post(PATH, json=body("echo x", store=False))
        also = await http.post(PATH, json=body("echo x"))
        runs = [run.response.id async for run in client.runs.list()]
        assert kept.headers["x-run-id"] in runs
        assert gone.headers["x-run-id"] not in runs
        assert also.headers["x-run-id"] not in runs
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("asked", "status", "param", "code"),
    [
        ({"messages": None}, 400, "messages", "missing_required_parameter"),
        ({"messages": []}, 400, "messages", "empty_array"),
        ({"messages": "hi"}, 400, "messages", "invalid_type"),
        ({"messages": [{"content": "x"}]}, 400, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "x"}]}, 400, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, 400, "messages[0].content", "missing_required_parameter"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            400,
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "hologram"}]}]},
            400,
            "messages[0].content[0].type",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            400,
            "messages[0].content[0].image_url.url",
            "missing_required_parameter",
        ),
        ({"model": None}, 400, "model", "missing_required_parameter"),
        ({"model": 1}, 400, "model", "invalid_value"),
        ({"n": 2}, 400, "n", "unsupported_parameter"),
        ({"n": 0}, 400, "n", "invalid_value"),
        ({"temperature": "hot"}, 400, "temperature", "invalid_value"),
        ({"max_tokens": 1.5}, 400, "max_tokens", "invalid_type"),
        ({"stop": [1]}, 400, "stop", "invalid_type"),
        ({"stream": "yes"}, 400, "stream", "invalid_value"),
        ({"stream_options": 1}, 400, "stream_options", "invalid_type"),
        ({"tools": [{"type": "function"}]}, 400, "tools[0].function.name", "missing_required_parameter"),
        ({"metadata": []}, 400, "metadata", "invalid_value"),
        ({"user": "u" * 257}, 400, "user", "invalid_value"),
        ({"x": "y" * 30_000}, 413, None, "request_too_large"),
    ],
)
async def test_what_is_refused(
    http: httpx.AsyncClient, asked: dict[str, Any], status: int, param: str | None, code: str
) -> None:
    answer = await http.post(PATH, json=body("echo x", **asked))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (status, param, code)
    assert error["type"] == "invalid_request_error"
    assert answer.headers["x-request-id"]


async def test_bodies_that_are_no_json(http: httpx.AsyncClient) -> None:
    json = {"content-type": "application/json"}
    assert (await http.post(PATH, content=b"{", headers=json)).status_code == 400
    assert (await http.post(PATH, content=b"[]", headers=json)).status_code == 400
    assert (await http.post(PATH, content=b"{}", headers={"content-type": "text/plain"})).status_code == 415


async def test_the_callers_own_request_id(http: httpx.AsyncClient) -> None:
    for more in ({}, {"stream": True}, {"n": 3}):
        answer = await http.post(PATH, json=body("echo x", **more), headers={"x-request-id": "mine"})
        assert answer.headers["x-request-id"] == "mine"


async def test_a_repeat_with_the_same_key_is_the_same_run(http: httpx.AsyncClient) -> None:
    key = {"idempotency-key": "k1"}
    asked = body("echo once", user="u")
    first = await http.post(PATH, json=asked, headers=key)
    again = await http.post(PATH, json=asked, headers=key)
    assert first.json() == again.json()
    other = await http.post(PATH, json=body("echo twice", user="u"), headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert other.headers["x-should-retry"] == "false"


async def test_every_frame_is_sent_by_itself(http: httpx.AsyncClient) -> None:
    async with http.stream("POST", PATH, json=body("words a b c", stream=True)) as answer:
        sent = [piece async for piece in answer.aiter_raw()]
    assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") for piece in sent)
    assert all(piece.count(b"\n\n") == 1 for piece in sent)
