"""POST /process and following runs: exact streams, resuming, pings, readers that disconnect, JSON answers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [{"type": "text", "text": text}]}], **more}


def events(text: str) -> list[dict[str, Any]]:
    """Returns the events of a whole stream; their ids are their sequence numbers."""
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        if block.startswith(":"):
            continue
        first, second = block.split("\n")
        event: dict[str, Any] = orjson.loads(second.removeprefix("data: "))
        assert first == f"id: {event['sequence_number']}"
        found.append(event)
    return found


async def lines(answer: httpx.Response) -> AsyncIterator[str]:
    """Yields blocks as they arrive."""
    rest = ""
    async for text in answer.aiter_text():
        rest += text
        while "\n\n" in rest:
            block, _, rest = rest.partition("\n\n")
            yield block
    assert rest == ""


async def status_of(http: httpx.AsyncClient, run_id: str) -> str:
    run = (await http.get(f"/runs/{run_id}")).json()
    return f"{run['status']} {(run['error'] or {}).get('code', '')}".strip()


async def until_status(http: httpx.AsyncClient, run_id: str, status: str) -> None:
    async with asyncio.timeout(5):
        while await status_of(http, run_id) != status:
            await asyncio.sleep(0.02)


async def test_a_stream_is_the_log_exactly(http: httpx.AsyncClient) -> None:
    answer = await http.post("/process", json=body("words a b", session_id="s", user_id="u"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-session-id"] == "s"
    run_id = answer.headers["x-run-id"]
    log = events(answer.text)
    message_id, at, until = log[2]["id"], log[0]["created_at"], log[-1]["completed_at"]
    head = f'"error":null,"id":"{run_id}","created_at":{at}'
    text = (
        '"object":"content","status":"in_progress","error":null,'
        f'"type":"text","index":0,"delta":true,"msg_id":"{message_id}"'
    )
    content = (
        '{"sequence_number":5,"object":"content","status":"completed","error":null,"type":"text","index":0,'
        f'"delta":null,"msg_id":"{message_id}","text":"ab"}}'
    )
    opened = f'"error":null,"id":"{message_id}","type":"message","role":"assistant"'
    message = (
        f'{{"sequence_number":6,"object":"message","status":"completed",{opened},"content":[{content}],'
        '"code":null,"message":null,"usage":null,"metadata":{}}'
    )
    nothing = '"completed_at":null,"output":null,"usage":null,"session_id":"s"'
    expected = [
        f'{{"sequence_number":0,"object":"response","status":"created",{head},{nothing}}}',
        f'{{"sequence_number":1,"object":"response","status":"in_progress",{head},{nothing}}}',
        f'{{"sequence_number":2,"object":"message","status":"in_progress",{opened},"content":null,'
        '"code":null,"message":null,"usage":null,"metadata":{}}',
        '{"sequence_number":3,' + text + ',"text":"a"}',
        '{"sequence_number":4,' + text + ',"text":"b"}',
        content,
        message,
        f'{{"sequence_number":7,"object":"response","status":"completed",{head},"completed_at":{until},'
        f'"output":[{message}],"usage":null,"session_id":"s"}}',
    ]
    assert answer.text == "".join(f"id: {number}\ndata: {line}\n\n" for number, line in enumerate(expected))


async def test_a_failed_run_keeps_what_it_said(http: httpx.AsyncClient) -> None:
    log = events((await http.post("/process", json=body("boom"))).text)
    assert [event["object"] for event in log[2:]] == ["message", "content", "content", "message", "response"]
    assert log[-2]["status"] == "incomplete"
    assert log[-1]["error"]["code"] == "AGENT_UNKNOWN_ERROR"
    assert log[-1]["output"] == [log[-2]]


async def test_what_the_agent_gets(http: httpx.AsyncClient) -> None:
    asked = body("request", id="mine", user_id="u", session_id="s", own={"a": [1]})
    log = events((await http.post("/process", json=asked)).text)
    assert orjson.loads(log[-1]["output"][0]["content"][0]["text"]) == ["u", "s", "mine", {"own": {"a": [1]}}]
    log = events((await http.post("/process", json=body("request"))).text)
    user, session, *_ = orjson.loads(log[-1]["output"][0]["content"][0]["text"])
    assert user == session == log[0]["session_id"]


async def test_another_agent_by_name(http: httpx.AsyncClient) -> None:
    log = events((await http.post("/process", json=body("x", agent="other"))).text)
    assert log[-1]["output"][0]["content"][0]["text"] == "the other"


@pytest.mark.parametrize(
    "cursor", [{"Last-Event-ID": "3"}, {"after": "3"}, {"Last-Event-ID": "3", "after": "0"}]
)
async def test_a_cut_stream_goes_on_behind_the_last_event(
    http: httpx.AsyncClient, cursor: dict[str, str]
) -> None:
    first = await http.post("/process", json=body("words a b c"))
    headers = {name: value for name, value in cursor.items() if name == "Last-Event-ID"}
    query = {name: value for name, value in cursor.items() if name == "after"}
    url = f"/runs/{first.headers['x-run-id']}/events"
    rest = await http.get(url, params=query, headers=headers)
    assert rest.text == first.text[first.text.index("id: 4\n") :]
    assert (await http.get(url)).text == first.text


async def test_behind_the_last_event_is_nothing_and_beyond_it_an_error(http: httpx.AsyncClient) -> None:
    first = await http.post("/process", json=body("echo x"))
    url = f"/runs/{first.headers['x-run-id']}/events"
    last = events(first.text)[-1]["sequence_number"]
    nothing = await http.get(url, params={"after": last})
    assert (nothing.status_code, nothing.text) == (200, "")
    ahead = await http.get(url, params={"after": last + 1})
    assert (ahead.status_code, ahead.json()["error"]["code"]) == (416, "CURSOR_AHEAD")
    assert ahead.json()["error"]["details"]["last_sequence_number"] == str(last)
    assert (await http.get("/runs/resp_x/events")).json()["error"]["code"] == "RUN_NOT_FOUND"


async def test_a_live_run_is_watched_from_the_middle(http: httpx.AsyncClient, tmp_path: Path) -> None:
    run = (await http.post("/runs", json=body(f"until {tmp_path / 'go'}"))).json()
    async with http.stream("GET", f"/runs/{run['id']}/events", params={"after": 1}) as answer:
        following = lines(answer)
        assert (await anext(following)).startswith("id: 2\n")
        (tmp_path / "go").touch()
        rest = [block async for block in following]
    assert '"status":"completed"' in rest[-1]


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_reader_who_leaves_is_no_reader_any_more(http: httpx.AsyncClient, streaming: bool) -> None:
    """The core stops a foreground run without readers, so the gateway must have stopped reading."""
    user_id = f"leaver {streaming}"
    asked = asyncio.create_task(http.post("/process", json=body("quiet", stream=streaming, user_id=user_id)))
    async with asyncio.timeout(5):
        while not (runs := (await http.get("/runs", params={"user_id": user_id})).json()["runs"]):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert await status_of(http, runs[0]["id"]) == "in_progress"
    asked.cancel()
    await until_status(http, runs[0]["id"], "canceled reader_gone")


async def test_a_background_run_goes_on_without_readers(http: httpx.AsyncClient, tmp_path: Path) -> None:
    asked = body(f"until {tmp_path / 'go'}", background=True)
    async with http.stream("POST", "/process", json=asked) as answer:
        run_id = answer.headers["x-run-id"]
    await asyncio.sleep(0.4)  # longer than the reader's grace
    assert await status_of(http, run_id) == "in_progress"
    (tmp_path / "go").touch()
    await until_status(http, run_id, "completed")


@pytest.mark.parametrize(
    ("asked", "accept", "json"),
    [
        ({"stream": False}, "*/*", True),
        ({}, "application/json", True),
        ({"stream": True}, "application/json", True),
        ({}, "application/json, text/plain, */*", False),
        ({}, "application/json, text/event-stream", False),
        ({"stream": True}, "text/event-stream", False),
        ({"stream": False}, "text/event-stream", True),
    ],
)
async def test_one_json_object_instead_of_a_stream(
    http: httpx.AsyncClient, asked: dict[str, Any], accept: str, json: bool
) -> None:
    answer = await http.post("/process", json=body("echo hi", **asked), headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/json") == json
    response = answer.json() if json else events(answer.text)[-1]
    assert response["object"] == "response"
    assert response["status"] == "completed"
    assert response["output"][0]["content"][0]["text"] == "hi"
    assert answer.headers["x-run-id"] == response["id"]
    assert answer.headers["x-session-id"] == response["session_id"]


async def test_a_failed_run_is_still_one_json_object(http: httpx.AsyncClient) -> None:
    answer = await http.post("/process", json=body("boom", stream=False))
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")


async def test_a_repeat_with_the_same_key_is_the_same_run(http: httpx.AsyncClient) -> None:
    asked = body("echo once", user_id="u")
    key = {"idempotency-key": "k1"}
    first = await http.post("/process", json=asked, headers=key)
    again = await http.post("/process", json=asked, headers=key)
    assert again.text == first.text
    task = await http.post("/process/task", json={**asked, "background": True, "idempotency_key": "k1"})
    assert task.status_code == 409
    other = await http.post("/process", json=body("echo twice", user_id="u"), headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    long = await http.post("/process", json=asked, headers={"idempotency-key": "k" * 257})
    assert long.status_code == 400


async def test_ids_that_are_no_header_are_left_out_of_them(http: httpx.AsyncClient) -> None:
    for session_id in ("用户", "a\r\nx-evil: 1", "a\tb"):
        answer = await http.post("/process", json=body("echo x", session_id=session_id, user_id="u"))
        assert answer.status_code == 200
        assert "x-session-id" not in answer.headers
        assert "x-evil" not in answer.headers
        assert events(answer.text)[0]["session_id"] == session_id
        asked = body("echo x", session_id=session_id, user_id="u", stream=False)
        answer = await http.post("/process", json=asked)
        assert answer.json()["session_id"] == session_id
        assert "x-session-id" not in answer.headers


async def test_metadata_that_grpc_would_refuse_is_not_passed_on(http: httpx.AsyncClient) -> None:
    headers = [(b"authorization", b"Bearer \xff\xfe"), (b"traceparent", b"a\tb"), (b"x-request-id", b"ok")]
    assert (await http.get("/runs", headers=headers)).status_code == 200
    assert (await http.post("/process", json=body("echo x"), headers=headers)).status_code == 200


async def test_a_budget_is_kept_to_and_told(http: httpx.AsyncClient) -> None:
    budget = {"tokens": 4, "wall_time": 60}
    told = events((await http.post("/process", json=body("rich", budget=budget))).text)
    assert (told[0]["budget"], told[0]["used"]["tokens"]) == ({"wall_time": 60.0, "tokens": 4}, 0)
    end = told[-1]
    assert (end["status"], end["error"]["code"]) == ("failed", "budget_exceeded")
    assert (end["used"]["tokens"], end["used"]["tool_calls"], end["used"]["exceeded"]) == (5, 1, "tokens")
    run = (await http.get(f"/runs/{end['id']}")).json()
    assert (run["budget"], run["used"]) == (end["budget"], end["used"])
    parent = (await http.post("/runs", json=body("quiet", budget={"child_runs": 1}))).json()["id"]
    child = await http.post("/runs", json=body("echo hi", parent_run_id=parent))
    assert child.json()["parent_run_id"] == parent
    again = await http.post("/runs", json=body("echo hi", parent_run_id=parent))
    assert again.status_code == 429
    assert "budget" not in (await http.post("/runs", json=body("echo"))).json()


@pytest.mark.parametrize(
    ("budget", "field"),
    [
        (5, "budget"),
        ({"calls": 5}, "budget.calls"),
        ({"tool_calls": 1.5}, "budget.tool_calls"),
        ({"tokens": -1}, "budget.tokens"),
        ({"wall_time": 0}, "budget.wall_time"),
        ({"wall_time": 10**7}, "budget.wall_time"),
    ],
)
async def test_a_budget_that_can_not_be_is_refused(http: httpx.AsyncClient, budget: Any, field: str) -> None:
    answer = await http.post("/process", json=body("echo", budget=budget))
    assert 400 <= answer.status_code <= 422
    assert field in answer.text
