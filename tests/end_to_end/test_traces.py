"""Traces over real processes: from a request in any protocol to the agent's operations."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import grpc.aio
import httpx
import httpx2
import pytest
from a2a.client import ClientCallContext, ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.types import a2a_pb2 as a2a
from mcp import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from support.collector import Collector, SeenSpan, running_collector
from support.deployment import Deployment, ask, free_port

from portico.client import Client, Multiplexer, NotFound
from portico.v1 import query_pb2, query_pb2_grpc

TRACED = Path(__file__).parent / "agents" / "traced.py"
QUERY = "portico.v1.QueryService/Query"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    started = Deployment(
        TRACED,
        tmp_path_factory.mktemp("traced"),
        *("--a2a-grpc-port", str(free_port())),
        env=collector.environment(),
    )
    yield started
    started.stop()
    log = started.log.read_text()
    assert "Failed to detach context" not in log, log


def new_trace() -> tuple[str, dict[str, str]]:
    """Returns a trace id, and the header of a caller in that trace."""
    trace_id = uuid4().hex
    return trace_id, {"traceparent": f"00-{trace_id}-00000000000000aa-01"}


def named(spans: list[SeenSpan], name: str) -> SeenSpan:
    found = [span for span in spans if span.name == name]
    assert len(found) == 1, [span.name for span in spans]
    return found[0]


def has(*names: str) -> Callable[[list[SeenSpan]], bool]:
    return lambda spans: set(names) <= {span.name for span in spans}


def chain(spans: list[SeenSpan], *names: str) -> None:
    """Checks that each span is the parent of the next; the parent of the first is the caller's span."""
    parent = "00000000000000aa"
    for name in names:
        span = named(spans, name)
        assert span.parent_id == parent, (name, [(one.name, one.parent_id) for one in spans])
        parent = span.span_id


async def test_a_request_is_one_trace_down_to_the_agents_tools(
    collector: Collector, traced: Deployment
) -> None:
    trace_id, headers = new_trace()
    async with httpx.AsyncClient(base_url=traced.url, timeout=60) as http:
        body = ask("work", session_id="s1", user_id="ann")
        await http.post("/process", json=body, headers=headers)
    below = ("execute_tool weather", "execute_tool run_cell", "retrieval memory")
    enough = has("POST /process", "invoke_agent traced", *below)
    spans = collector.trace(trace_id, enough)
    chain(spans, "POST /process", "invoke_agent traced")
    run = named(spans, "invoke_agent traced")
    assert {named(spans, name).parent_id for name in below} == {run.span_id}
    assert run.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert run.attributes["gen_ai.agent.name"] == "traced"
    assert run.attributes["gen_ai.conversation.id"] == "s1"
    assert run.attributes["gen_ai.usage.input_tokens"] == 3
    assert run.attributes["portico.run.status"] == "completed"
    assert named(spans, "execute_tool weather").attributes["gen_ai.tool.call.id"] == "call_1"
    assert named(spans, "execute_tool run_cell").attributes["portico.sandbox.id"]
    request = named(spans, "POST /process")
    assert (request.service, run.service) == ("portico-gateway", "portico-core")
    assert request.attributes["http.response.status_code"] == 200
    told = json.dumps([span.attributes for span in spans])
    assert "tea" not in told, "what people say is in no span"
    assert "6 * 7" not in told


async def test_streams_of_one_connection_have_traces_of_their_own(
    collector: Collector, traced: Deployment
) -> None:
    traces = [new_trace() for _ in range(3)]
    async with Client(traced.target) as client, Multiplexer(client) as streams:

        async def follow(headers: dict[str, str]) -> None:
            query = query_pb2.QueryRequest()
            query.request.input.add().content.add(text="say hello")
            with streams.open_query(query, metadata=headers) as stream:
                async for _ in stream:
                    pass

        await asyncio.gather(*(follow(headers) for _, headers in traces))
    for trace_id, _ in traces:
        spans = collector.trace(trace_id, has("invoke_agent traced"))
        chain(spans, "invoke_agent traced")


async def test_a_call_of_the_core_and_its_run_are_in_the_clients_trace(
    collector: Collector, traced: Deployment
) -> None:
    trace_id, headers = new_trace()
    async with Client(traced.target).with_options(metadata=headers) as client:
        assert await client.runs.query("say hello").text() == "hello"
    spans = collector.trace(trace_id, has(QUERY, "invoke_agent traced"))
    chain(spans, QUERY, "invoke_agent traced")
    assert named(spans, QUERY).attributes["rpc.response.status_code"] == "OK"


async def test_a_run_that_waited_for_its_turn_is_in_its_own_callers_trace(
    collector: Collector, traced: Deployment
) -> None:
    (first, first_headers), (second, second_headers) = new_trace(), new_trace()
    async with Client(traced.target) as client:
        waiting = await client.with_options(metadata=first_headers).runs.start(
            "wait", user_id="ann", session_id="turns"
        )
        queued = await client.with_options(metadata=second_headers).runs.start(
            "say hi", user_id="ann", session_id="turns"
        )
        run = await client.runs.get(waiting.response.id)
        while not run.response.HasField("input_request"):
            await asyncio.sleep(0.02)
            run = await client.runs.get(waiting.response.id)
        await client.runs.resume(waiting.response.id, "yes")
        async for _ in client.runs.watch(queued.response.id):
            pass
    for trace_id, id in ((first, waiting.response.id), (second, queued.response.id)):
        spans = collector.trace(trace_id, has("invoke_agent traced"))
        assert named(spans, "invoke_agent traced").attributes["portico.run.id"] == id


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"model": "traced", "input": "headers"}),
        ("/v1/chat/completions", {"model": "traced", "messages": [{"role": "user", "content": "headers"}]}),
        ("/process", ask("headers", stream=False)),
    ],
)
async def test_what_an_agent_calls_goes_on_with_its_callers_trace(
    collector: Collector, traced: Deployment, path: str, body: dict[str, object]
) -> None:
    trace_id, headers = new_trace()
    async with httpx.AsyncClient(base_url=traced.url, timeout=60) as http:
        text = (await http.post(path, json=body, headers=headers)).text
    spans = collector.trace(trace_id, has(f"POST {path}", "invoke_agent traced"))
    run = named(spans, "invoke_agent traced")
    assert f"00-{trace_id}-{run.span_id}-01" in text


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON", "GRPC"])
async def test_a2a_callers_bring_their_trace(collector: Collector, traced: Deployment, binding: str) -> None:
    trace_id, headers = new_trace()
    async with httpx.AsyncClient(headers=headers, timeout=60) as http:
        card = await A2ACardResolver(http, traced.url).get_agent_card()
        config = ClientConfig(
            httpx_client=http,
            supported_protocol_bindings=[binding],
            grpc_channel_factory=grpc.aio.insecure_channel,
        )
        client = ClientFactory(config).create(card)
        message = a2a.Message(message_id=uuid4().hex, role=a2a.ROLE_USER, parts=[a2a.Part(text="say hi")])
        request = a2a.SendMessageRequest(message=message)
        if binding == "GRPC":
            context = ClientCallContext(service_parameters=headers)
            answers = client.send_message(request, context=context)
        else:
            answers = client.send_message(request)
        async for _ in answers:
            pass

    def whole(spans: list[SeenSpan]) -> bool:
        known = {span.span_id for span in spans} | {"00000000000000aa"}
        return has("invoke_agent traced")(spans) and all(span.parent_id in known for span in spans)

    assert named(collector.trace(trace_id, whole), "invoke_agent traced").service == "portico-core"


async def test_a_call_of_another_agent_joins_both_runs_in_one_trace(
    collector: Collector, traced: Deployment
) -> None:
    trace_id, headers = new_trace()
    async with httpx.AsyncClient(base_url=traced.url, timeout=60) as http:
        await http.post("/process", json=ask(f"peer {traced.url}"), headers=headers)

    def both(spans: list[SeenSpan]) -> bool:
        return [span.name for span in spans].count("invoke_agent traced") == 2 and has("POST /process")(spans)

    spans = collector.trace(trace_id, both)
    call = named(spans, "invoke_agent 127.0.0.1")
    assert call.kind == 3, "a client's"
    assert all(span.parent_id in {one.span_id for one in spans} | {"00000000000000aa"} for span in spans)


async def test_mcp_callers_bring_their_trace(collector: Collector, traced: Deployment) -> None:
    trace_id, headers = new_trace()
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{traced.url}/mcp", http_client=http)
        async with McpClient(transport) as client:
            await client.call_tool("sandbox_run_code", {"code": "1"})
    tool = "tools/call sandbox_run_code"
    spans = collector.trace(trace_id, has(tool, "portico.v1.SandboxService/RunCell"))
    assert named(spans, "portico.v1.SandboxService/RunCell").parent_id == named(spans, tool).span_id


async def test_failures_say_what_they_are_and_not_whose_words(
    collector: Collector, traced: Deployment
) -> None:
    trace_id, headers = new_trace()
    async with Client(traced.target).with_options(metadata=headers) as client:
        await client.runs.start("fail my password")
        with pytest.raises(NotFound):
            await client.runs.get("resp_none")
    get = "portico.v1.QueryService/GetRun"
    spans = collector.trace(trace_id, has("invoke_agent traced", get))
    run = named(spans, "invoke_agent traced")
    assert run.error
    assert run.attributes["error.type"] == "AGENT_UNKNOWN_ERROR"
    assert named(spans, get).attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert "password" not in json.dumps([span.attributes for span in spans])


async def test_a_stream_that_is_cut_off_ends_its_span_as_cancelled(
    collector: Collector, traced: Deployment
) -> None:
    trace_id, headers = new_trace()
    async with Client(traced.target) as client:
        run = await client.runs.start("wait", user_id="bob", session_id="cut")
        async with grpc.aio.insecure_channel(traced.target) as channel:
            request = query_pb2.QueryRequest()
            request.request.user_id, request.request.session_id = "bob", "cut"
            request.request.input.add().content.add(text="say hi")
            call = query_pb2_grpc.QueryServiceStub(channel).Query(request, metadata=tuple(headers.items()))
            await call.read()
            call.cancel()
        spans = collector.trace(trace_id, has(QUERY))
        assert named(spans, QUERY).attributes["rpc.response.status_code"] == "CANCELLED"
        assert not named(spans, QUERY).error
        await client.runs.cancel(run.response.id)


async def test_a_signed_path_is_in_no_trace(collector: Collector, traced: Deployment) -> None:
    trace_id, headers = new_trace()
    async with httpx.AsyncClient(base_url=traced.url, timeout=30) as http:
        assert (await http.get("/ports/secret-token/a", headers=headers)).status_code == 404
    spans = collector.trace(trace_id, has("GET /ports/{token}"))
    assert named(spans, "GET /ports/{token}").attributes["url.path"] == "/ports/"
    assert "secret-token" not in json.dumps([span.attributes for span in spans])
