"""A gateway on a real port with a real core and a small agent, all in the test's event loop."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from support.serving import Serve, client_of, running_core, served, settings_in

from portico.agent import AgentApp, AgentRequest, Context, Message, data, reasoning, tool_call, usage
from portico.core.server.core_server import CoreServer
from portico.gateways.sse.app import SseGateway
from portico.gateways.sse.settings import SseSettings


def scripted_agents() -> list[AgentApp]:
    app = AgentApp("scripted", "does what it is told to")
    other = AgentApp("other", "another one")

    @app.query
    async def query(
        msgs: Sequence[Message], request: AgentRequest, context: Context
    ) -> AsyncGenerator[object, Any]:
        word, _, rest = msgs[-1].text.partition(" ")
        match word:
            case "echo":
                yield rest
            case "words":
                for part in rest.split():
                    yield part
                    await asyncio.sleep(0)
            case "rich":
                yield reasoning("Hm.")
                yield tool_call("get_weather", {"city": "Paris"}, call_id="call_1")
                yield data({"degrees": 21})
                yield usage(input_tokens=3, output_tokens=2, provider="p")
            case "boom":
                yield "I begin"
                raise ValueError("boom")
            case "quiet":
                yield "."
                await asyncio.sleep(600)
            case "until":  # until FILE
                yield "."
                while not Path(rest).exists():
                    await asyncio.sleep(0.01)
            case "ask":
                answer: Any = yield context.input_required("Which city?", schema={"type": "string"})
                yield f"You said {answer[-1].text}."
            case "request":
                yield json.dumps([request.user_id, request.session_id, request.request_id, request.extra])

    @other.query
    async def other_query(msgs: Sequence[Message]) -> str:
        return "the other"

    _add_endpoints(app)

    @other.endpoint("/whoami", methods=["GET"])
    def whoami() -> str:
        return "other"

    return [app, other]


def _add_endpoints(app: AgentApp) -> None:
    @app.endpoint("/add", methods=["GET", "POST"])
    def add(a: int, b: int = 1) -> dict[str, int]:
        return {"sum": a + b}

    @app.endpoint("/echo")
    def echo(body: Any) -> Any:
        return body

    @app.endpoint("/countdown", methods=["GET", "POST"])
    def countdown(start: int = 2) -> Iterator[dict[str, int]]:
        for number in range(start, 0, -1):
            yield {"number": number}

    @app.endpoint("/fails")
    def fails() -> None:
        raise RuntimeError("no luck")

    @app.endpoint("/fails-late")
    async def fails_late() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("no luck")

    @app.endpoint("/fails-first")
    async def fails_first() -> AsyncIterator[int]:
        raise RuntimeError("no luck")
        yield 1

    @app.endpoint("/endless")
    async def endless(mark: str) -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(600)
        finally:
            Path(mark).touch()


def _gateway(directory: Path, **settings: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    given = SseSettings(**settings_in(directory, **settings))
    return client_of(SseGateway(given), given)


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[CoreServer]:
    async with running_core(scripted_agents(), tmp_path) as server:
        yield server


@pytest.fixture
async def serve(core: CoreServer, tmp_path: Path) -> AsyncIterator[Serve]:
    async with served(partial(_gateway, tmp_path)) as start:
        yield start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway shared by the tests of a module, which therefore share an event loop."""
    directory = tmp_path_factory.mktemp("core")
    async with (
        running_core(scripted_agents(), directory),
        _gateway(directory, max_body_bytes=20_000) as client,
    ):
        yield client
