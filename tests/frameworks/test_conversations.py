"""What every framework must do alike: the same conversations, with its own agent and tools."""

import json
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.types import a2a_pb2 as a2a
from openai import AsyncOpenAI
from support.deployment import Deployment, eventually
from support.model import ScriptedModel

from portico.client import Client
from portico.v1 import events_pb2 as pb

AGENTS = Path(__file__).parent / "agents"
FRAMEWORKS = [
    "agentscope",
    "agno",
    "autogen",
    "langgraph",
    "ms_agent_framework",
    "openai",
    "openai_agents",
    "pydantic_ai",
]
# These tell a call when the model has said all of it.
WHOLE_CALLS = ("agno", "autogen")
framework = pytest.mark.parametrize("framework", FRAMEWORKS)

Said = list[tuple[str, Any]]
LOOKED_IN_PARIS = ("plugin_call", ("call_1", "get_weather", {"city": "Paris"}))
LOOKED_IN_ROME = ("plugin_call", ("call_2", "get_weather", {"city": "Rome"}))
SUN_IN_PARIS = ("plugin_call_output", ("call_1", "sunny in Paris"))
SUN_IN_ROME = ("plugin_call_output", ("call_2", "sunny in Rome"))


def told(output: Any) -> Said:
    """Messages as their type, and their text or their call."""
    said: Said = []
    for message in output:
        kind = pb.MessageType.Name(message.type).removeprefix("MESSAGE_TYPE_").lower()
        for content in message.content:
            data = json.loads(content.data_json or "{}")
            if kind == "plugin_call":
                said.append((kind, (data["call_id"], data["name"], json.loads(data["arguments"]))))
            elif kind == "plugin_call_output":
                said.append((kind, (data["call_id"], data["output"])))
            else:
                said.append((kind, content.text))
    return said


async def ended(client: Client, text: str, framework: str, **options: Any) -> pb.Response:
    events = [event async for event in client.runs.query(text, agent=framework, **options)]
    return events[-1].response


@framework
async def test_words_come_one_by_one(client: Client, framework: str) -> None:
    events = [event async for event in client.runs.query("hello", agent=framework)]
    deltas = [event.content.text for event in events if event.content.delta]
    assert deltas == ["Hel", "lo ", "there."]
    assert told(events[-1].response.output) == [("message", "Hello there.")]
    assert events[-1].response.usage.input_tokens == 11
    assert events[-1].response.usage.output_tokens == 3


@framework
async def test_the_models_thoughts_are_told_apart(client: Client, framework: str) -> None:
    response = await ended(client, "think", framework)
    assert told(response.output) == [("reasoning", "Let me think."), ("message", "It is four.")]


@framework
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "weather in Paris",
            [("message", "I look. "), LOOKED_IN_PARIS, SUN_IN_PARIS, ("message", "It is sunny.")],
        ),
        (
            "weather in both",
            [LOOKED_IN_PARIS, LOOKED_IN_ROME, SUN_IN_PARIS, SUN_IN_ROME, ("message", "Both are sunny.")],
        ),
        (
            "weather, then",
            [LOOKED_IN_PARIS, SUN_IN_PARIS, LOOKED_IN_ROME, SUN_IN_ROME, ("message", "One by one.")],
        ),
    ],
)
async def test_tools_are_called_and_told(client: Client, framework: str, text: str, said: Said) -> None:
    response = await ended(client, text, framework)
    assert response.status == pb.RUN_STATUS_COMPLETED, response.error
    if text == "weather in both":
        # Tools that work side by side may end in any order.
        assert sorted(map(repr, told(response.output))) == sorted(map(repr, said))
        assert told(response.output)[:2] == said[:2]
    else:
        assert told(response.output) == said


@pytest.mark.parametrize("framework", [name for name in FRAMEWORKS if name not in WHOLE_CALLS])
async def test_arguments_of_a_call_are_told_as_they_come(client: Client, framework: str) -> None:
    events = [event async for event in client.runs.query("weather in Paris", agent=framework)]
    grown = [
        json.loads(event.content.data_json)["arguments"]
        for event in events
        if event.content.status == pb.RUN_STATUS_IN_PROGRESS and '"arguments"' in event.content.data_json
    ]
    assert grown == ["", '{"ci', '{"city": "Par', '{"city": "Paris"}']


@framework
async def test_an_error_of_the_model_fails_the_run_and_keeps_what_was_said(
    client: Client, framework: str
) -> None:
    response = await ended(client, "break", framework)
    assert response.status == pb.RUN_STATUS_FAILED
    assert "the model is overloaded" in response.error.message
    assert told(response.output) == [("message", "Half a word")]


@framework
async def test_cancelling_reaches_the_model_and_keeps_what_was_said(
    client: Client, model: ScriptedModel, framework: str
) -> None:
    cut_off = model.cut_off
    stream = client.runs.query("slowly", agent=framework)
    async for event in stream:
        if event.content.text:
            break
    assert stream.run_id
    run = await client.runs.cancel(stream.run_id)
    assert run.response.status == pb.RUN_STATUS_CANCELED
    events = [event async for event in client.runs.watch(stream.run_id)]
    assert told(events[-1].response.output)[0][1].startswith("tick ")
    await eventually(lambda: model.cut_off > cut_off)


@framework
async def test_every_protocol_tells_the_same(client: Client, deployment: Deployment, framework: str) -> None:
    text = "weather in Paris"
    over_grpc = told((await ended(client, text, framework)).output)
    async with httpx.AsyncClient(base_url=deployment.url, timeout=60) as http:
        body = {
            "agent": framework,
            "input": [{"role": "user", "content": [{"type": "text", "text": text}]}],
        }
        answer = await http.post("/process", json=body)
        last = json.loads(answer.text.strip().rpartition("data: ")[2])
        over_sse = [_sse(message) for message in last["output"]]
        peer = await _over_a2a(http, deployment.url, framework, text)
    async with AsyncOpenAI(base_url=f"{deployment.url}/v1", api_key="none", max_retries=0) as openai:
        response = await openai.responses.create(model=framework, input=text)
    over_responses: Said = []
    for item in response.output:
        if item.type == "mcp_call":
            assert (item.name, json.loads(item.arguments)) == ("get_weather", {"city": "Paris"})
            over_responses += [LOOKED_IN_PARIS, ("plugin_call_output", ("call_1", item.output))]
        elif item.type == "message":
            over_responses.append(("message", "".join(getattr(part, "text", "") for part in item.content)))
    assert over_sse == over_grpc
    assert over_responses == over_grpc
    assert peer == "".join(said for kind, said in over_grpc if kind == "message")


def _sse(message: dict[str, Any]) -> tuple[str, Any]:
    content = message["content"][0]
    data = content.get("data") or {}
    if message["type"] == "plugin_call":
        return message["type"], (data["call_id"], data["name"], json.loads(data["arguments"]))
    if message["type"] == "plugin_call_output":
        return message["type"], (data["call_id"], data["output"])
    return message["type"], content["text"]


async def _over_a2a(http: httpx.AsyncClient, url: str, framework: str, text: str) -> str:
    card = await A2ACardResolver(http, f"{url}/agents/{framework}").get_agent_card()
    client = ClientFactory(ClientConfig(httpx_client=http, streaming=False)).create(card)
    message = a2a.Message(message_id=uuid4().hex, role=a2a.ROLE_USER, parts=[a2a.Part(text=text)])
    said = ""
    async for event in client.send_message(a2a.SendMessageRequest(message=message)):
        said += "".join(part.text for artifact in event.task.artifacts for part in artifact.parts)
    return said


@pytest.fixture(scope="module")
def crashed(deployment: Deployment) -> None:
    """Everybody has been told a name; then the core was killed, and is back."""
    with httpx.Client(base_url=deployment.url, timeout=60) as http:
        for name in FRAMEWORKS:
            session = f"crash-{name}"
            body = {"agent": name, "input": f"my name is Ada {session}", "session_id": session}
            assert "Noted, Ada." in http.post("/process", json={**body, "user_id": "ada"}).text
    core = deployment.child("portico.core")
    core.kill()
    core.wait(10)
    while deployment.child("portico.core").pid == core.pid:
        time.sleep(0.05)
    deployment.wait_ready()


@framework
async def test_a_conversation_goes_on_after_a_crash(
    crashed: None, client: Client, model: ScriptedModel, framework: str
) -> None:
    session = f"crash-{framework}"
    response = await ended(client, "who am I", framework, session_id=session, user_id="ada")
    assert told(response.output) == [("message", "You are Ada.")], response.error
    asked = json.dumps(model.requests[-1])
    assert asked.count(f"my name is Ada {session}") == 1
    assert asked.count("Noted, ") == 1
