"""The agent of AgentScope Runtime's README: as it was, but for the package's name and the model.

The core has AgentScope 1's environment; it has no room for the MCP gateway, so gateways are made one by one.
"""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from support.model import Call, Reply, ScriptedModel
from support.serving import client_of, running_core, running_site, settings_in

from portico.core.loading import load_apps
from portico.gateways.openai.app import OpenAiGateway
from portico.gateways.openai.settings import OpenAiSettings
from portico.gateways.sse.app import SseGateway
from portico.gateways.sse.settings import SseSettings

PROGRAM = Path(__file__).parent / "readme_agent.py"
QUESTION = "What is the capital of France?"
SCRIPT = {
    "capital of France": [Reply(["The", " capital of France", " is Paris."])],
    "six times seven": [
        Reply(calls=[Call("call_1", "execute_python_code", ['{"code": "pri', 'nt(6 * 7)"}'])]),
        Reply(["It is 42."]),
    ],
    "think": [Reply(["Yes."], thoughts=["Hm."])],
}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedModel]:
    started = ScriptedModel(SCRIPT)
    monkeypatch.setenv("SCRIPTED_MODEL_URL", started.url)
    yield started
    started.stop()


@pytest.fixture
async def core(model: ScriptedModel, tmp_path: Path) -> AsyncIterator[Path]:
    async with running_core(load_apps(str(PROGRAM)), tmp_path):
        yield tmp_path


@pytest.fixture
async def http(core: Path) -> AsyncIterator[httpx.AsyncClient]:
    settings = SseSettings(**settings_in(core))
    async with client_of(SseGateway(settings), settings) as client:
        client.timeout = httpx.Timeout(60)
        yield client


async def process(http: httpx.AsyncClient, text: str, **more: str) -> list[Any]:
    """What the README's curl command shows."""
    content = [{"type": "text", "text": text}]
    answer = await http.post("/process", json={"input": [{"role": "user", "content": content}], **more})
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line[:1] == "d"]


async def test_the_answer_is_streamed(http: httpx.AsyncClient) -> None:
    events = await process(http, QUESTION)
    deltas = [event["text"] for event in events if event.get("delta")]
    assert "".join(deltas) == "The capital of France is Paris."
    assert len(deltas) > 1
    assert events[-1]["status"] == "completed"


async def test_a_tool_is_called(http: httpx.AsyncClient) -> None:
    output = (await process(http, "six times seven"))[-1]["output"]
    assert [message["type"] for message in output] == ["plugin_call", "plugin_call_output", "message"]
    assert "<stdout>42" in output[1]["content"][0]["data"]["output"]


async def test_thoughts_are_told_apart(http: httpx.AsyncClient) -> None:
    output = (await process(http, "think"))[-1]["output"]
    said = [(message["type"], message["content"][0]["text"]) for message in output]
    assert said == [("reasoning", "Hm."), ("message", "Yes.")]


async def test_a_session_is_remembered(http: httpx.AsyncClient, model: ScriptedModel) -> None:
    await process(http, "six times seven", session_id="s", user_id="u")
    await process(http, QUESTION, session_id="s", user_id="u")
    roles = [message["role"] for message in model.requests[-1]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]


async def test_openais_sdk_reads_it_as_the_readme_says(core: Path) -> None:
    settings = OpenAiSettings(**settings_in(core))
    async with (
        running_site(OpenAiGateway(settings), settings) as (url, _),
        AsyncOpenAI(base_url=f"{url}/compatible-mode/v1", api_key="none") as client,
    ):
        response = await client.responses.create(model="any_name", input=QUESTION)
    assert response.output_text == "The capital of France is Paris."
