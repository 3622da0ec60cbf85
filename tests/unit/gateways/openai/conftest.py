"""A gateway on a real port with a real core and a small agent, all in the test's event loop."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from support.serving import Serve, client_of, running_core, served, settings_in

from portico.agent import (
    AgentApp,
    AgentError,
    AgentRequest,
    Context,
    DataContent,
    Message,
    MessageType,
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
from portico.core.server.core_server import CoreServer
from portico.gateways.openai.app import OpenAiGateway
from portico.gateways.openai.settings import OpenAiSettings


def scripted_agents() -> list[AgentApp]:
    app = AgentApp("scripted", "does what it is told to")
    other = AgentApp("other", "another one")

    @app.query
    async def query(
        msgs: Sequence[Message], request: AgentRequest, context: Context
    ) -> AsyncGenerator[object, Any]:
        if msgs[-1].type is MessageType.FUNCTION_CALL_OUTPUT:
            for part in msgs[-1].content:
                if isinstance(part, DataContent):
                    yield f"The tool said {part.data['output']}."
            return
        word, _, rest = msgs[-1].text.partition(" ")
        match word:
            case "echo":
                yield rest
            case "json":  # json LIST: yield its texts one by one
                for piece in json.loads(rest):
                    yield piece
            case "words":
                for piece in rest.split():
                    yield piece
                    await asyncio.sleep(0)
            case "rich":
                yield reasoning("Let me ")
                yield reasoning("think.")
                yield tool_call("get_weather", {"city": "Paris"}, call_id="own_1")
                yield tool_output("own_1", "sunny", name="get_weather")
                yield "It is "
                yield "sunny."
                yield new_message()
                yield data({"degrees": 21})
                yield usage(input_tokens=7, output_tokens=5, cached_input_tokens=3, reasoning_output_tokens=2)
            case "contents":
                yield "See:"
                yield image("https://x/i.png")
                yield text("and")
                yield text(" hear")
                yield audio("UklG", "mp3")
                yield video("https://x/v.mp4")
                yield file(url="https://x/f.pdf", name="f.pdf")
            case "refuse":
                yield refusal("I would rather not.")
            case "call":  # call NAME [NAME ...]: the caller's functions
                for name in rest.split():
                    yield function_call(name, {"city": "Paris"}, call_id=f"call_{name}")
            case "pieces":  # pieces of a call's arguments, as models send them
                for piece in ('{"city"', ': "Par', 'is"}'):
                    yield tool_call_delta("call_1", rest, piece, type=MessageType.FUNCTION_CALL)
            case "talk-and-call":
                yield "One moment."
                yield function_call("get_weather", {"city": "Paris"}, call_id="call_1")
            case "boom":
                yield "I begin"
                raise ValueError("boom")
            case "fail":  # fail CODE
                yield "so far"
                raise AgentError("it went wrong", code=rest)
            case "reject":
                yield context.reject("not today", code="closed")
            case "quiet":
                yield "."
                await asyncio.sleep(600)
            case "until":  # until FILE
                yield "."
                while not Path(rest).exists():
                    await asyncio.sleep(0.01)
                yield "!"
            case "ask":
                yield "A question."
                answer: Any = yield context.input_required("Which city?")
                yield f"You said {answer[-1].text}."
            case "nothing":
                pass
            case "request":
                yield json.dumps(_told(request))
            case "input":
                yield json.dumps([_message(message) for message in msgs])

    @other.query
    async def other_query(msgs: Sequence[Message], request: AgentRequest) -> str:
        return f"the other, {request.parameters.model}"

    return [app, other]


def _told(request: AgentRequest) -> dict[str, Any]:
    """Returns the parts of a request that an agent sees."""
    return {
        "agent": request.agent_name,
        "user_id": request.user_id,
        "parameters": {
            name: getattr(request.parameters, name)
            for name in request.parameters.__slots__
            if getattr(request.parameters, name) not in (None, ())
        },
        "tools": [[tool.name, tool.type, dict(tool.parameters), dict(tool.raw)] for tool in request.tools],
        "extra": request.extra,
        "metadata": request.metadata,
    }


def _message(message: Message) -> dict[str, Any]:
    contents = [
        {name: getattr(part, name) for name in part.__slots__ if getattr(part, name)}
        for part in message.content
    ]
    return {"type": message.type, "role": message.role, "content": contents, "metadata": message.metadata}


def _gateway(directory: Path, **settings: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    given = OpenAiSettings(**settings_in(directory, **settings))
    return client_of(OpenAiGateway(given), given)


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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def openai(http: httpx.AsyncClient) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's SDK, connected to the shared gateway."""
    async with AsyncOpenAI(base_url=f"{http.base_url}/v1", api_key="none") as client:
        yield client
