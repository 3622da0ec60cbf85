"""The agents' own endpoints, framed as in AgentScope Runtime."""

import asyncio
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAILED = '{"error":"no luck","error_type":"RuntimeError","message":"Error in streaming generator"}'


async def test_a_function_is_called_with_a_body_or_a_query(http: httpx.AsyncClient) -> None:
    assert (await http.post("/add", json={"a": 1, "b": 2})).json() == {"sum": 3}
    assert (await http.get("/add", params={"a": 4})).json() == {"sum": 5}
    assert (await http.post("/agents/scripted/endpoints/add", json={"a": 1})).json() == {"sum": 2}
    assert (await http.get("/agents/other/endpoints/whoami")).json() == "other"
    assert (await http.get("/whoami")).status_code == 404  # an endpoint of another agent than the default one


@pytest.mark.parametrize("body", [[1, {"a": None}], "text", 1.5, {"deep": {"er": []}}, "用户"])
async def test_any_json_goes_through(http: httpx.AsyncClient, body: object) -> None:
    assert (await http.post("/echo", json=body)).json() == body


async def test_a_generator_streams_as_data_lines(http: httpx.AsyncClient) -> None:
    expected = 'data: {"number":2}\n\ndata: {"number":1}\n\n'
    posted = await http.post("/countdown")
    assert posted.headers["content-type"].startswith("text/event-stream")
    assert posted.text == expected
    assert (await http.get("/countdown", params={"start": 2})).text == expected
    assert (await http.get("/countdown", params={"start": 0})).text == ""


async def test_a_wrong_method_is_told(http: httpx.AsyncClient) -> None:
    answer = await http.delete("/add")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    assert answer.json()["error"]["code"] == "METHOD_NOT_ALLOWED"
    assert (await http.get("/echo")).status_code == 405


async def test_a_function_that_raises(http: httpx.AsyncClient) -> None:
    answer = await http.post("/fails")
    assert answer.status_code == 500
    details = {"error_type": "RuntimeError"}
    assert answer.json() == {"error": {"code": "ENDPOINT_FAILED", "message": "no luck", "details": details}}


async def test_a_generator_that_raises_ends_with_an_error_event(http: httpx.AsyncClient) -> None:
    assert (await http.post("/fails-late")).text == f"data: 1\n\ndata: {FAILED}\n\n"
    assert (await http.post("/fails-first")).text == f"data: {FAILED}\n\n"


async def test_a_reader_who_leaves_ends_the_function(http: httpx.AsyncClient, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with http.stream("POST", "/endless", json={"mark": str(mark)}) as answer:
        async for text in answer.aiter_text():
            assert text == "data: 1\n\n"
            break
        assert not mark.exists()
    async with asyncio.timeout(5):
        while not mark.exists():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("text", ["[[[", "{", '"quoted"', "[1]", "1e999", "01", "x", ""])
async def test_what_is_no_plain_value_in_a_query_is_text(http: httpx.AsyncClient, text: str) -> None:
    answer = await http.get("/add", params={"a": text})
    assert answer.status_code == 500  # 'x' + 1 in the agent's own code
    assert answer.json()["error"]["details"]["error_type"] == "TypeError"
