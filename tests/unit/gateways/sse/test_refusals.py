"""Invalid input: the right status, one error JSON with the path, and no internal details."""

from typing import Any

import httpx
import orjson
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "hello"
GOOD = {"input": TEXT}
JSON = {"content-type": "application/json"}
BODY_ROUTES = [
    ("POST", "/process"),
    ("POST", "/process/task"),
    ("POST", "/runs"),
    ("POST", "/runs/resp_1/resume"),
    ("POST", "/sessions"),
    ("POST", "/sessions/u/s/messages"),
    ("POST", "/states/u/s"),
    ("PUT", "/states/u/s/1"),
    ("POST", "/memories"),
    ("POST", "/memories/search"),
    ("POST", "/echo"),
]
DEEP = b'{"a":' * 600 + b"1" + b"}" * 600


def refused(answer: httpx.Response, status: int, code: str = "", field: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    value = answer.json()
    assert list(value) == ["error"]
    error = value["error"]
    assert list(error) == ["code", "message", "details"]
    assert error["message"]
    assert all(isinstance(text, str) for text in error["details"].values())
    for inside in ("Traceback", ".py", "portico.", "pydantic", "line 1, in"):
        assert inside not in answer.text
    if code:
        assert error["code"] == code
    if field is not None:
        assert error["details"]["field"] == field
        assert error["message"].startswith(field)


async def test_a_wrong_method_is_told_all_the_right_ones(http: httpx.AsyncClient) -> None:
    answer = await http.request("PATCH", "/memories")
    refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "DELETE, GET, POST"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/sandboxes/sbx_0/processes/738031779192520/output", None),
        ("POST", "/sandboxes/sbx_0/ports/65536", {}),
        ("POST", "/sandboxes", {"fresh": 0}),
        ("POST", "/process/task", {**GOOD, "stream": {}}),
    ],
)
async def test_what_the_schema_forbids_is_refused(
    http: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = await http.request(method, path, json=body)
    assert answer.status_code in (400, 422)
    refused(answer, answer.status_code, "INVALID_ARGUMENT")


@pytest.mark.parametrize(("method", "path"), BODY_ROUTES)
async def test_every_body_is_checked_alike(http: httpx.AsyncClient, method: str, path: str) -> None:
    async def send(content: bytes | Any, **headers: str) -> httpx.Response:
        given = {**JSON, **headers}
        answer: httpx.Response = await http.request(method, path, content=content, headers=given)
        return answer

    async def in_pieces(size: int) -> Any:
        for _ in range(size):
            yield b" " * 1000

    for content in (b"nope", b"{", b'{"a": NaN}', b'{"a": "\\ud800"}', b'{"a": "\xff"}'):
        refused(await send(content), 400, "INVALID_ARGUMENT")
    refused(await send(b" " * 20_001), 413, "BODY_TOO_LARGE")
    refused(await send(in_pieces(30)), 413, "BODY_TOO_LARGE")
    for wrong in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""):
        refused(await send(b"{}", **{"content-type": wrong}), 415, "UNSUPPORTED_MEDIA_TYPE")
    if path != "/echo":
        for content in (b"[]", b"1", b"null", b'"x"'):
            refused(await send(content), 422, "INVALID_ARGUMENT")


@pytest.mark.parametrize(("method", "path"), BODY_ROUTES)
async def test_json_that_nests_deeply_is_refused(http: httpx.AsyncClient, method: str, path: str) -> None:
    body: dict[str, Any] = {"input": TEXT, "messages": TEXT, "user_id": "u", "query": "x"}
    body["memories"] = [{"text": "x", "metadata": orjson.loads(DEEP)}]
    body["metadata"] = {"a": orjson.loads(DEEP)}
    raw = orjson.dumps({**body, "metadata": 0, "memories": 0}).replace(b'"metadata":0', b'"metadata":' + DEEP)
    raw = raw.replace(b'"memories":0', b'"memories":[{"text":"x","metadata":' + DEEP + b"}]")
    answer = await http.request(method, path, content=raw, headers=JSON)
    if answer.status_code != 404:
        refused(answer, 500 if path == "/echo" else 422)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": [{"role": "boss"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "smell"}]}]}, "input[0].content[0].type"),
        ({**GOOD, "temperature": "hot"}, "temperature"),
        ({**GOOD, "metadata": []}, "metadata"),
    ],
)
@pytest.mark.parametrize("path", ["/process", "/process/task", "/runs"])
async def test_a_wrong_shape_names_its_place(
    http: httpx.AsyncClient, path: str, body: Any, field: str
) -> None:
    refused(await http.post(path, json=body), 422, "INVALID_ARGUMENT", field)


async def test_what_the_core_refuses(http: httpx.AsyncClient) -> None:
    refused(await http.post("/process", json={"input": []}), 400, "INVALID_ARGUMENT")
    refused(await http.post("/process", json={**GOOD, "session_id": "x" * 257}), 400, "INVALID_ARGUMENT")
    refused(await http.post("/process", json={**GOOD, "user_id": "a\0b"}), 400, "INVALID_ARGUMENT")
    refused(await http.post("/process", json={**GOOD, "agent": "nobody"}), 404, "AGENT_NOT_FOUND")
    refused(await http.post("/runs", json={**GOOD, "agent": "nobody"}), 404, "AGENT_NOT_FOUND")
    refused(await http.get("/sessions", params={"user_id": ""}), 400, "INVALID_ARGUMENT")
    refused(await http.get("/runs", params={"page_token": "x"}), 400, "INVALID_ARGUMENT")


async def test_other_bodies_name_their_place_too(http: httpx.AsyncClient) -> None:
    wrong: list[tuple[str, Any, str]] = [
        ("/sessions", {}, "user_id"),
        ("/sessions", {"user_id": 1}, "user_id"),
        ("/sessions", {"user_id": "u", "metadata": []}, "metadata"),
        ("/sessions/u/s/messages", {}, "messages"),
        ("/sessions/u/s/messages", {"messages": [1]}, "messages[0]"),
        ("/memories", {"user_id": "u", "memories": [{"text": 1}]}, "memories[0].text"),
        ("/memories/search", {"user_id": "u", "query": "q", "top_k": 0}, "top_k"),
        ("/runs/resp_1/resume", {}, "input"),
        ("/runs/resp_1/resume", {"input": "x", "input_request_id": 1}, "input_request_id"),
    ]
    for path, body, field in wrong:
        refused(await http.post(path, json=body), 422, "INVALID_ARGUMENT", field)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/runs?page_size=x", "page_size"),
        ("/runs?page_size=-1", "page_size"),
        ("/runs?page_size=1e9", "page_size"),
        ("/runs?status=odd", "status[0]"),
        ("/runs?created_from=nan", "created_from"),
        ("/runs?created_until=1e300", "created_until"),
        ("/runs/resp_1/events?after=-1", "after"),
        ("/runs/resp_1/events?after=x", "after"),
        ("/runs/resp_1/events?after=99999999999999999999", "after"),
        ("/sessions", "user_id"),
        ("/sessions/search?user_id=u", "query"),
        ("/sessions/u/s/messages?order=odd", "order"),
        ("/states/u/s/0", "round_id"),
        ("/states/u/s/x", "round_id"),
    ],
)
async def test_a_wrong_parameter_is_named(http: httpx.AsyncClient, path: str, field: str) -> None:
    refused(await http.get(path), 422, "INVALID_ARGUMENT", field)


@pytest.mark.parametrize("cursor", ["x", "-1", "1.0", "٣", "9" * 16])
async def test_a_last_event_id_that_is_none(http: httpx.AsyncClient, cursor: str) -> None:
    answer = await http.get("/runs/resp_1/events", headers=[(b"last-event-id", cursor.encode())])
    refused(answer, 400, "INVALID_ARGUMENT", "Last-Event-ID")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"),
        ("POST", "/nowhere"),
        ("GET", "/runs/resp_nope"),
        ("DELETE", "/runs/resp_nope"),
        ("GET", "/runs/resp_nope/events"),
        ("POST", "/runs/resp_nope/cancel"),
        ("POST", "/runs/resp_nope/interrupt"),
        ("GET", "/process/task/resp_nope"),
        ("GET", "/process/stream"),
        ("POST", "/process/"),
        ("GET", "/runs/"),
        ("GET", "/sessions/u/none"),
        ("DELETE", "/sessions/u/none"),
        ("GET", "/sessions/u/none/messages"),
        ("GET", "/states/u/none"),
        ("GET", "/states/u/none/1"),
        ("GET", "/agents/none"),
        ("GET", "/agents/none/endpoints/add"),
        ("GET", "/agents/scripted/endpoints/none"),
        ("GET", "/agents/scripted/endpoints"),
        ("GET", "/runs/%0d%0ax-evil:%201/events"),
    ],
)
async def test_what_is_not_there_is_404(http: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await http.request(method, path)
    refused(answer, 404)
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/process"),
        ("DELETE", "/process"),
        ("OPTIONS", "/process"),
        ("PUT", "/runs"),
        ("POST", "/health"),
    ],
)
async def test_a_wrong_method_is_405(http: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await http.request(method, path)
    refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"]


async def test_ids_with_odd_characters_go_both_ways(http: httpx.AsyncClient) -> None:
    for session_id in ("用户 1", "a%2Fb?c#d", "'; drop table--", "😀"):
        made = await http.post("/sessions", json={"user_id": "u", "session_id": session_id})
        assert made.status_code == 201
        assert made.json()["session_id"] == session_id
        assert made.headers["location"].isascii()
        found = await http.get(made.headers["location"])
        assert found.json()["session_id"] == session_id
