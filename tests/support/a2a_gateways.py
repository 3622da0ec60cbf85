"""A2A gateways on real ports before a real core with a small agent, in the test's event loop; and clients."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import uvicorn
from a2a.client import Client, ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.types import a2a_pb2 as a2a

from portico.agent import (
    AgentApp,
    AgentRequest,
    Context,
    Message,
    Skill,
    data,
    file,
    image,
    reasoning,
    tool_call,
    tool_output,
    usage,
)
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings
from portico.gateways.a2a.app import A2aGateway
from portico.gateways.a2a.settings import A2aSettings
from portico.gateways.http.site import GatewaySite

BINDINGS = ("JSONRPC", "HTTP+JSON", "GRPC")


def scripted_agents() -> list[AgentApp]:
    app = AgentApp(
        "scripted",
        "does what it is told to",
        version="2.1",
        input_modes=("text/plain", "application/json", "image/*", "application/pdf"),
        output_modes=("text/plain", "application/json", "application/pdf"),
        skills=[Skill("echo", "Echo", "Says it again.", ("demo",), ("echo hello",))],
    )
    other = AgentApp("other", "another one", output_modes=())

    @app.query
    async def query(
        msgs: Sequence[Message], request: AgentRequest, context: Context
    ) -> AsyncGenerator[object, Any]:
        word, _, rest = msgs[-1].text.partition(" ")
        match word:
            case "echo":
                yield rest
            case "count":
                for number in range(int(rest)):
                    yield f"{number} "
                    await asyncio.sleep(0)
            case "rich":
                yield reasoning("Hm.")
                yield tool_call("get_weather", {"city": "Paris"}, call_id="call_1")
                yield tool_output("call_1", "21", name="get_weather")
                yield "It is "
                yield "21 degrees."
                yield data({"degrees": 21, "exact": 20.5})
                yield file(url="https://example.org/map.pdf", name="map.pdf")
                yield image("data:image/png;base64,AAAA")
                yield usage(input_tokens=3, output_tokens=2)
            case "boom":
                yield "I begin"
                raise ValueError("boom")
            case "refuse":
                yield context.reject("not today")
            case "quiet":
                yield "."
                await asyncio.sleep(600)
            case "why":  # why FILE: writes the reason of its cancellation
                yield "."
                try:
                    await asyncio.sleep(600)
                finally:
                    Path(rest).write_text(json.dumps(context.cancel_metadata))
            case "modes":
                yield json.dumps(list(request.accepted_output_modes))
            case "until":  # until FILE
                yield "."
                while not Path(rest).exists():
                    await asyncio.sleep(0.01)
                yield "!"
            case "ask":
                answer: Any = yield context.input_required("Which city?", schema={"type": "string"})
                yield f"You said {answer[-1].text}."
            case "authorize":
                answer = yield context.auth_required("May I?")
                yield f"Thanks for {answer[-1].text}."
            case "listen":  # listen FILE
                yield "."
                while not Path(rest).exists():
                    await asyncio.sleep(0.01)
                for told in await context.new_input():
                    yield f"I hear: {told.text}"
            case "see":
                said = msgs[-1]
                about = [list(said.extensions), list(said.reference_run_ids), dict(said.metadata)]
                more = [dict(request.metadata), dict(said.content[0].metadata)]
                yield json.dumps([said.id, request.request_id, *about, *more])
            case "history":
                yield " | ".join(message.text for message in await context.session.messages())

    @other.query
    async def other_query(msgs: Sequence[Message]) -> str:
        return "the other"

    direct = AgentApp("direct", answers_directly=True)

    @direct.query
    async def direct_query(msgs: Sequence[Message], context: Context) -> AsyncGenerator[object, Any]:
        if msgs[-1].text == "ask":
            yield context.input_required("What?")
        elif msgs[-1].text == "boom":
            raise ValueError("boom")
        yield f"directly {msgs[-1].text}"

    return [app, other, direct]


@dataclass
class Gateway:
    """One gateway, and clients of it."""

    url: str
    grpc: str
    site: GatewaySite
    http: httpx.AsyncClient
    stack: AsyncExitStack

    async def card(self, agent: str = "") -> a2a.AgentCard:
        base = f"{self.url}/agents/{agent}" if agent else self.url
        return await A2ACardResolver(self.http, base).get_agent_card()

    async def client(
        self, binding: str, *, agent: str = "", version: str = "1.0", streaming: bool = True
    ) -> Client:
        """Returns the SDK's client for the card's interface of this binding and version."""
        card = await self.card(agent)
        kept = [
            interface
            for interface in card.supported_interfaces
            if interface.protocol_binding == binding and interface.protocol_version == version
        ]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(kept)
        config = ClientConfig(
            httpx_client=self.http,
            grpc_channel_factory=grpc.aio.insecure_channel,
            supported_protocol_bindings=[binding],
            streaming=streaming,
        )
        client = ClientFactory(config).create(card)
        if binding == "GRPC":  # the client does not own the HTTP client
            self.stack.push_async_callback(client.close)
        return client


@asynccontextmanager
async def running_core(directory: Path, store: str = "memory://") -> AsyncIterator[CoreServer]:
    settings = CoreSettings(
        listen=[f"unix:{directory}/core.sock"], store=store, drain_seconds=0, reader_grace_seconds=0.2
    )
    server = CoreServer(scripted_agents(), settings)
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def running_gateway(directory: Path, **settings: Any) -> AsyncIterator[Gateway]:
    told = {"core": f"unix:{directory}/core.sock", "resume_seconds": 1.0, "push_allow": ["127.0.0.0/8"]}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        rpc = f"127.0.0.1:{probe.getsockname()[1]}"
    given = A2aSettings(**{**told, "grpc_listen": rpc, **settings})
    site = GatewaySite([A2aGateway(given)], given)
    # With an explicit protocol number, because asyncio otherwise leaves Nagle's delay on.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(100)
    config = uvicorn.Config(
        site, http="httptools", ws="none", log_level="critical", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve([listening]))
    while not server.started:
        await asyncio.sleep(0.005)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with httpx.AsyncClient(timeout=10) as http, AsyncExitStack() as stack:
        yield Gateway(url, rpc, site, http, stack)
    site.stop()
    server.should_exit = True
    await running
