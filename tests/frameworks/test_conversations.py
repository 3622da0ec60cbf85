"""Behaviour that all frameworks share: the same conversations, each with its own agent and tools."""

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
from google.protobuf.json_format import MessageToDict
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
# These report a call once the model has completed it.
WHOLE_CALLS = ("agno", "autogen")
framework = pytest.mark.parametrize("framework", FRAMEWORKS)
# These store their memory in the session's state; the others read the conversation.
KEEPS_STATE = ("agentscope", "agno", "autogen", "langgraph", "ms_agent_framework")

Said = list[tuple[str, Any]]
LOOKED_IN_PARIS = ("plugin_call", ("call_1", "get_weather", {"city": "Paris"}))
LOOKED_IN_ROME = ("plugin_call", ("call_2", "get_weather", {"city": "Rome"}))
SUN_IN_PARIS = ("plugin_call_output", ("call_1", "sunny in Paris"))
SUN_IN_ROME = ("plugin_call_output", ("call_2", "sunny in Rome"))


def told(output: Any) -> Said:
    """Returns messages as their type, and their text or call."""
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
        # Tools that execute concurrently may end in any order.
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
@pytest.mark.parametrize("text", ["weather in Paris", "think"])
async def test_every_protocol_tells_the_same(
    client: Client, deployment: Deployment, framework: str, text: str
) -> None:
    """Reasoning, text, calls, results and usage arrive in the same order."""
    response = await ended(client, text, framework)
    over_grpc = told(response.output)
    counted = (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens)
    async with httpx.AsyncClient(base_url=deployment.url, timeout=60) as http:
        assert await _over_sse(http, framework, text) == (over_grpc, counted)
        assert await _over_a2a(http, deployment.url, framework, text) == (over_grpc, counted)
    assert await _over_responses(deployment.url, framework, text) == (over_grpc, counted)


async def _over_sse(http: httpx.AsyncClient, framework: str, text: str) -> tuple[Said, Any]:
    body = {"agent": framework, "input": [{"role": "user", "content": [{"type": "text", "text": text}]}]}
    answer = await http.post("/process", json=body)
    last = json.loads(answer.text.strip().rpartition("data: ")[2])
    said = [
        _one(message["type"], content.get("data"), content.get("text"))
        for message in last["output"]
        for content in message["content"]
    ]
    return said, _counted(last["usage"])


def _one(kind: str, data: Any, text: Any) -> tuple[str, Any]:
    if kind == "plugin_call":
        return kind, (data["call_id"], data["name"], json.loads(data["arguments"]))
    return (kind, (data["call_id"], data["output"])) if kind == "plugin_call_output" else (kind, text)


def _counted(usage: Any) -> tuple[int, int, int]:
    return int(usage["input_tokens"]), int(usage["output_tokens"]), int(usage["total_tokens"])


async def _over_a2a(
    http: httpx.AsyncClient, url: str, framework: str, text: str
) -> tuple[Said, tuple[int, int, int]]:
    """Returns growing artifacts, and between them the reasoning, calls and results of status updates."""
    card = await A2ACardResolver(http, f"{url}/agents/{framework}").get_agent_card()
    client = ClientFactory(ClientConfig(httpx_client=http, streaming=True)).create(card)
    message = a2a.Message(message_id=uuid4().hex, role=a2a.ROLE_USER, parts=[a2a.Part(text=text)])
    said: Said = []
    artifacts: list[str] = []
    metadata: Any = {}
    async for event in client.send_message(a2a.SendMessageRequest(message=message)):
        if event.HasField("artifact_update"):
            artifact = event.artifact_update.artifact
            if artifact.artifact_id not in artifacts:
                artifacts.append(artifact.artifact_id)
                said.append(("message", ""))
            words = "".join(part.text for part in artifact.parts)
            said[-1] = ("message", said[-1][1] + words)
        elif event.HasField("status_update"):
            status = event.status_update.status
            metadata = MessageToDict(event.status_update.metadata)
            if status.HasField("message"):
                kind = MessageToDict(status.message.metadata)["type"]
                said += [_one(kind, MessageToDict(p.data), p.text) for p in status.message.parts]
    return said, _counted(metadata["usage"])


async def _over_responses(url: str, framework: str, text: str) -> tuple[Said, tuple[int, int, int]]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as openai:
        response = await openai.responses.create(model=framework, input=text)
    said: Said = []
    for item in response.output:
        if item.type == "mcp_call":
            # A call and its result in one; its id is the item's.
            said += [
                ("plugin_call", ("call_1", item.name, json.loads(item.arguments))),
                ("plugin_call_output", ("call_1", item.output)),
            ]
        elif item.type == "reasoning":
            said += [("reasoning", part.text) for part in item.content or item.summary]
        elif item.type == "message":
            said.append(("message", "".join(getattr(part, "text", "") for part in item.content)))
    return said, _counted(response.usage.model_dump() if response.usage else {})


@pytest.fixture(scope="module")
def crashed(deployment: Deployment) -> None:
    """Tells every agent a name; then kills the core and waits for the next one."""
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


@framework
async def test_what_a_framework_keeps_goes_with_its_session(client: Client, framework: str) -> None:
    async def kept(*sessions: str) -> int:
        """Returns how many rounds the deletion of the user finds after all sessions but the last were
        deleted.
        """
        user_id = f"user-{uuid4().hex}"
        for session_id in sessions:
            await ended(client, "hello", framework, user_id=user_id, session_id=session_id)
        assert [state async for state in client.states.list(user_id=user_id)] == []
        for session_id in sessions[:-1]:
            await client.sessions.delete(session_id, user_id=user_id)
        return (await client.identity.forget_user(user_id)).states

    assert (await kept("one") > 0) == (framework in KEEPS_STATE)
    assert await kept("one", "two") == await kept("two")
