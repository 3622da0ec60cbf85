"""The WebSocket mode, through the openai SDK and by hand."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets
from openai import AsyncOpenAI
from support.serving import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

TERMINAL = ("response.completed", "response.failed", "response.incomplete", "error")


class Socket:
    """A connection controlled by hand."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def send(self, **event: Any) -> None:
        await self.connection.send(json.dumps(event))

    async def create(self, **body: Any) -> None:
        await self.send(type="response.create", **{"model": "scripted", **body})

    async def next(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(await asyncio.wait_for(self.connection.recv(), 5))
        return event

    async def until(self, *types: str) -> list[dict[str, Any]]:
        events = [await self.next()]
        while events[-1]["type"] not in types:
            events.append(await self.next())
        return events


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_pages_of_other_sites_cannot_connect(http: httpx.AsyncClient, origin: str) -> None:
    url = str(http.base_url).replace("http://", "ws://").rstrip("/")
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(f"{url}/v1/responses", additional_headers={"origin": origin})
    assert caught.value.response.status_code == 403
    own = {"origin": str(http.base_url).rstrip("/")}
    async with websockets.connect(f"{url}/v1/responses", additional_headers=own):
        pass


@asynccontextmanager
async def connect(http: httpx.AsyncClient) -> AsyncIterator[Socket]:
    url = str(http.base_url).replace("http:", "ws:").rstrip("/")
    async with websockets.connect(f"{url}/v1/responses") as connection:
        yield Socket(connection)


def text_of(event: dict[str, Any]) -> str:
    return "".join(
        part["text"]
        for item in event["response"]["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


async def test_the_sdk_asks_one_after_the_other(openai: AsyncOpenAI) -> None:
    async with openai.responses.connect() as connection:
        await connection.response.create(model="scripted", input="echo one")
        first: Any = None
        numbers = []
        async for event in connection:
            numbers.append(event.sequence_number)
            if event.type == "response.completed":
                first = event.response
                break
        assert numbers == list(range(len(numbers)))
        await connection.response.create(model="scripted", input="history", previous_response_id=first.id)
        async for event in connection:
            if event.type == "response.completed":
                assert json.loads(event.response.output_text) == ["echo one", "one", "history"]
                break
    assert (await openai.responses.retrieve(first.id)).output_text == "one"


async def test_what_is_not_stored_goes_on_within_the_connection(http: httpx.AsyncClient) -> None:
    async with connect(http) as socket:
        await socket.create(input="echo one", store=False)
        first = (await socket.until(*TERMINAL))[-1]["response"]
        await socket.create(input="input", store=False, previous_response_id=first["id"])
        last = (await socket.until(*TERMINAL))[-1]
        said = [message["content"][0]["text"] for message in json.loads(text_of(last))]
        assert said == ["echo one", "one", "input"]
        assert last["response"]["previous_response_id"] == first["id"]
    async with connect(http) as other:
        await other.create(input="input", store=False, previous_response_id=first["id"])
        error = (await other.until(*TERMINAL))[-1]
        assert error["status"] == 400
        assert error["error"]["code"] == "previous_response_not_found"


async def test_a_response_can_be_prepared(http: httpx.AsyncClient) -> None:
    async with connect(http) as socket:
        await socket.create(input="echo one", generate=False)
        events = await socket.until(*TERMINAL)
        prepared = events[-1]["response"]
        assert (prepared["status"], prepared["output"]) == ("completed", [])
        await socket.create(input="input", previous_response_id=prepared["id"])
        last = (await socket.until(*TERMINAL))[-1]
        said = [message["content"][0]["text"] for message in json.loads(text_of(last))]
        assert said == ["echo one", "input"]


@pytest.mark.parametrize(
    ("given", "status", "code", "param"),
    [
        ({"model": "nobody"}, 404, "model_not_found", "model"),
        ({"previous_response_id": "resp_0"}, 400, "previous_response_not_found", "previous_response_id"),
        ({"conversation": "conv_0"}, 404, "conversation_not_found", "conversation"),
        ({"input": [{"type": "item_reference", "id": "msg_0"}]}, 404, "item_not_found", "input[0]"),
    ],
)
async def test_what_can_not_be_prepared_is_refused_at_once(
    http: httpx.AsyncClient, given: dict[str, Any], status: int, code: str, param: str
) -> None:
    async with connect(http) as socket:
        await socket.create(**{"input": "echo one", "generate": False, **given})
        event = await socket.next()
        assert (event["type"], event["status"]) == ("error", status)
        assert (event["error"]["code"], event["error"]["param"]) == (code, param)
        await socket.create(input="echo one", generate=False, model="")
        assert (await socket.until(*TERMINAL))[-1]["response"]["model"] == "scripted"


async def test_what_is_prepared_knows_what_is_stored_behind_it(http: httpx.AsyncClient) -> None:
    async with connect(http) as socket:
        await socket.create(input="echo one")
        stored = (await socket.until(*TERMINAL))[-1]["response"]
        await socket.create(input="echo two", previous_response_id=stored["id"], generate=False)
        prepared = (await socket.until(*TERMINAL))[-1]["response"]
        await socket.create(input="history", previous_response_id=prepared["id"])
        told = text_of((await socket.until(*TERMINAL))[-1])
    assert [told.find(word) for word in ("echo one", "one", "echo two", "history")] == sorted(
        told.find(word) for word in ("echo one", "one", "echo two", "history")
    )
    assert -1 not in [told.find(word) for word in ("echo one", "echo two", "history")]


async def test_each_lane_keeps_what_it_did_not_store(http: httpx.AsyncClient) -> None:
    async with connect(http) as socket:
        kept = {}
        for lane in "ab":
            await socket.create(input=f"echo {lane}", store=False, stream_id=lane)
            kept[lane] = (await socket.until(*TERMINAL))[-1]["response"]["id"]
        await socket.create(input="input", previous_response_id=kept["a"], store=False, stream_id="a")
        last = (await socket.until(*TERMINAL))[-1]
        assert last["type"] == "response.completed"
        assert "echo a" in text_of(last)


async def test_lanes_are_side_by_side(http: httpx.AsyncClient) -> None:
    async with connect(http) as socket:
        await socket.create(input="quiet", stream_id="a")
        await socket.create(input="echo b", stream_id="b")
        while True:
            event = await socket.next()
            if event["type"] in TERMINAL:
                break
        assert event["stream_id"] == "b"
        assert text_of(event) == "b"


async def test_errors_come_in_an_envelope(http: httpx.AsyncClient) -> None:
    async with connect(http) as socket:
        await socket.connection.send("{")
        assert (await socket.next())["error"]["code"] == "invalid_json"
        await socket.send(type="nonsense")
        assert (await socket.next())["error"]["param"] == "type"
        await socket.create(input="echo x", background=True, stream_id="s")
        event = await socket.next()
        assert event["type"] == "error"
        assert event["status"] == 400
        assert event["stream_id"] == "s"
        assert event["error"]["param"] == "background"
        await socket.create(input="echo x", nonsense=1)
        assert (await socket.next())["error"]["code"] == "unknown_parameter"
        await socket.create(input="echo x", model="nobody")
        error = await socket.next()
        assert error["status"] == 404
        assert error["error"]["code"] == "model_not_found"
        assert "scripted, player" in error["error"]["message"]
        deep = '{"x":' * 251 + "1" + "}" * 251
        await socket.connection.send(f'{{"type": "response.create", "input": "x", "text": {deep}}}')
        assert (await socket.next())["error"]["param"] == "text"
        await socket.connection.send(f'{{"type": "response.steer", "input": {deep}}}')
        assert (await socket.next())["error"]["param"] == "input"
        await socket.create(input="echo still here")
        assert text_of((await socket.until(*TERMINAL))[-1]) == "still here"


async def test_input_reaches_an_agent_that_works(openai: AsyncOpenAI) -> None:
    async with openai.responses.connect() as connection:
        await connection.response.create(model="scripted", input="steps 4")
        events: list[Any] = []
        steered = False
        async for event in connection:
            events.append(event)
            if event.type == "response.output_text.delta" and not steered:
                steered = True
                await connection.response.steer(input="turn left", previous_response_id=events[0].response.id)
            if event.type == "response.completed":
                break
    kinds = [event.type for event in events]
    accepted = kinds.index("response.steer.accepted")
    incomplete = kinds.index("response.incomplete")
    assert accepted < incomplete
    before = events[incomplete].response
    assert before.incomplete_details.reason == "steered"
    successor = events[incomplete + 1]
    assert successor.type == "response.created"
    assert successor.sequence_number == 0
    assert successor.response.id == f"{before.id}_2"
    assert successor.response.previous_response_id == before.id
    assert "heard turn left" in events[-1].response.output_text
    assert (await openai.responses.retrieve(before.id)).status == "incomplete"
    after = await openai.responses.retrieve(successor.response.id)
    assert after.output_text == events[-1].response.output_text


async def test_input_that_was_not_taken_is_a_response_of_its_own(http: httpx.AsyncClient) -> None:
    async with connect(http) as socket:
        await socket.create(input="slow a b c")
        created = await socket.next()
        await socket.until("response.output_text.delta")
        id = created["response"]["id"]
        await socket.send(type="response.steer", previous_response_id=id, input="history")
        first = await socket.until("response.completed")
        assert "response.steer.accepted" in [event["type"] for event in first]
        second = (await socket.until(*TERMINAL))[-1]
        assert second["response"]["previous_response_id"] == id
        assert json.loads(text_of(second)) == ["slow a b c", "a b c ", "history"]


async def test_steering_waits_for_what_the_caller_owes(http: httpx.AsyncClient) -> None:
    async with connect(http) as socket:
        await socket.create(input="slowcall get_weather")
        created = await socket.next()
        await socket.until("response.output_text.delta")
        id = created["response"]["id"]
        await socket.send(type="response.steer", previous_response_id=id, input="and tomorrow?")
        events = await socket.until("response.steer.pending")
        pending = events[-1]
        assert events[-2]["type"] == "response.completed"
        (stub,) = pending["required_input"]
        assert stub == {"type": "function_call_output", "call_id": "call_1", "name": "get_weather"}
        await socket.create(input=[{**stub, "output": "sunny"}], previous_response_id=id)
        last = (await socket.until(*TERMINAL))[-1]
        assert "sunny" in text_of(last)


async def test_steering_that_fails_says_why(http: httpx.AsyncClient) -> None:
    async with connect(http) as socket:
        await socket.send(type="response.steer", previous_response_id="resp_0", input="x")
        event = await socket.next()
        assert event["type"] == "response.steer.failed"
        assert event["error"]["code"] == "response_not_found"
        assert event["steer"] == {"previous_response_id": "resp_0", "input": "x"}
        await socket.create(input="echo x")
        done = (await socket.until(*TERMINAL))[-1]
        id = done["response"]["id"]
        await socket.send(type="response.steer", previous_response_id=id, input="x")
        assert (await socket.next())["error"]["code"] == "response_already_completed"
        await socket.send(
            type="response.steer", previous_response_id=id, input=[{"role": "system", "content": ""}]
        )
        assert (await socket.next())["error"]["code"] == "invalid_input"


@pytest.mark.asyncio(loop_scope="function")
async def test_a_connection_lasts_so_long_and_no_longer(serve: Serve) -> None:
    http = await serve(websocket_seconds=0.2)
    async with connect(http) as socket:
        event = await socket.next()
        assert event["error"]["code"] == "websocket_connection_limit_reached"
        with pytest.raises(websockets.ConnectionClosedOK):
            await socket.next()


@pytest.mark.asyncio(loop_scope="function")
async def test_a_gateway_that_stops_says_so(serve: Serve) -> None:
    http = await serve()
    async with connect(http) as socket:
        await socket.create(input="quiet")
        await socket.until("response.output_text.delta")
        http.site.stop()  # type: ignore[attr-defined]
        assert (await socket.until("error"))[-1]["error"]["code"] == "draining"


async def test_it_is_for_responses_only(http: httpx.AsyncClient) -> None:
    url = str(http.base_url).replace("http:", "ws:").rstrip("/")
    with pytest.raises(websockets.InvalidStatus):
        async with websockets.connect(f"{url}/v1/models"):
            pass
