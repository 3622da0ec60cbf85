"""The whole OpenAI gateway on a real port with a real core, in the test's event loop."""

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
    Message,
    MessageType,
    data,
    function_call,
    image,
    reasoning,
    refusal,
    tool_call,
    tool_call_delta,
    tool_output,
    usage,
)
from portico.core.server.core_server import CoreServer
from portico.gateways.openai.app import OpenAiGateway
from portico.gateways.openai.settings import OpenAiSettings

SCRIPTS: dict[str, list[object]] = {}  # output of the agent `player`, by input text


def scripted_agents() -> list[AgentApp]:
    app = AgentApp("scripted", "does what it is told to")
    player = AgentApp("player", "yields what a test laid down")

    @app.query
    async def query(
        msgs: Sequence[Message], request: AgentRequest, context: Context
    ) -> AsyncGenerator[object, Any]:
        last = msgs[-1]
        if last.type is MessageType.FUNCTION_CALL_OUTPUT:
            yield f"The tool said {last.content[0].data}."  # type: ignore[union-attr]
            return
        word, _, rest = last.text.partition(" ")
        match word:
            case "echo":
                yield rest
            case "words":
                for piece in rest.split():
                    yield piece + " "
                    await asyncio.sleep(0)
            case "slow":
                for piece in rest.split():
                    yield piece + " "
                    await asyncio.sleep(0.03)
            case "rich":
                yield reasoning("Let me ")
                yield reasoning("think.")
                yield tool_call("get_weather", {"city": "Paris"}, call_id="own_1")
                yield tool_output("own_1", "sunny", name="get_weather")
                yield "It is "
                yield "sunny."
                yield image("https://x/i.png")
                yield data({"degrees": 21})
                yield usage(input_tokens=7, output_tokens=5, cached_input_tokens=3, reasoning_output_tokens=2)
            case "refuse":
                yield refusal("I would rather not.")
            case "call":
                yield function_call(rest, {"city": "Paris"}, call_id="call_1")
            case "pieces":  # pieces of a call's arguments, as models send them
                own = rest == "own"
                kind = MessageType.PLUGIN_CALL if own else MessageType.FUNCTION_CALL
                for piece in ('{"city"', ': "Par', 'is"}'):
                    yield tool_call_delta("call_1", rest, piece, type=kind)
                if own:
                    yield tool_output("call_1", "sunny", name=rest)
            case "slowcall":
                for piece in ("one", "moment", "please"):
                    yield piece + " "
                    await asyncio.sleep(0.03)
                yield function_call(rest, {"city": "Paris"}, call_id="call_1")
            case "boom":
                yield "I begin"
                raise ValueError("boom")
            case "fail":
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
                answer: Any = yield context.input_required("Which city?", schema={"type": "string"})
                yield f"You said {answer[-1].text}."
                yield usage(output_tokens=3)
            case "steps":  # steps N: looks for new input between them
                for number in range(int(rest)):
                    yield f"step {number} "
                    await asyncio.sleep(0.03)
                    for told in await context.new_input():
                        yield f"heard {told.text} "
            case "history":
                messages = await context.session.messages()
                yield json.dumps([message.text for message in messages])
            case "request":
                yield json.dumps(_told(request))
            case "input":
                yield json.dumps([_message(message) for message in msgs])

    @player.query
    async def play(msgs: Sequence[Message]) -> AsyncGenerator[object, Any]:
        for item in SCRIPTS[msgs[-1].text]:
            if isinstance(item, Exception):
                raise item
            yield item

    return [app, player]


def _told(request: AgentRequest) -> dict[str, Any]:
    parameters = request.parameters
    return {
        "agent": request.agent_name,
        "user_id": request.user_id,
        "session_id": request.session_id,
        "model": parameters.model,
        "temperature": parameters.temperature,
        "max_tokens": parameters.max_tokens,
        "tools": [[tool.name, tool.type, dict(tool.parameters)] for tool in request.tools],
        "extra": request.extra,
        "metadata": request.metadata,
    }


def _message(message: Message) -> dict[str, Any]:
    contents = [
        {name: getattr(part, name) for name in part.__slots__ if getattr(part, name)}
        for part in message.content
    ]
    return {"type": message.type, "role": message.role, "content": contents}


def run_core(directory: Path, **given: Any) -> AbstractAsyncContextManager[CoreServer]:
    return running_core(scripted_agents(), directory, **given)


def run_gateway(directory: Path, **settings: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    given = OpenAiSettings(**settings_in(directory, **settings))
    return client_of(OpenAiGateway(given), given)


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[CoreServer]:
    async with run_core(tmp_path) as server:
        yield server


@pytest.fixture
async def serve(core: CoreServer, tmp_path: Path) -> AsyncIterator[Serve]:
    async with served(partial(run_gateway, tmp_path)) as start:
        yield start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway shared by the tests of a module, which therefore share an event loop."""
    directory = tmp_path_factory.mktemp("core")
    async with run_core(directory) as core, run_gateway(directory, max_body_bytes=200_000) as client:
        client.core = core  # type: ignore[attr-defined]
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def openai(http: httpx.AsyncClient) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's SDK, connected to the shared gateway."""
    async with AsyncOpenAI(base_url=f"{http.base_url}/v1", api_key="none", max_retries=0) as client:
        yield client
