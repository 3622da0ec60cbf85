"""The agents of AgentScope Runtime's READMEs (1.0 and 1.1), as real processes with a scripted model."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.deployment import Deployment, free_port
from support.model import Call, Reply, ScriptedModel
from support.reference_programs import renamed

QUESTION = "What is the capital of France?"
SCRIPT = {
    "capital of France": [Reply(["The", " capital of France", " is Paris."])],
    "six times seven": [
        Reply(calls=[Call("call_1", "execute_python_code", ['{"code": "pri', 'nt(6 * 7)"}'])]),
        Reply(["It is 42."]),
    ],
    "think": [Reply(["Yes."], thoughts=["Hm."])],
}


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    started = ScriptedModel(SCRIPT)
    yield started
    started.stop()


@pytest.fixture(scope="module", params=["v1_0", "v1_1"])
def agent(
    request: pytest.FixtureRequest, model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Starts the program, as `python agent.py` does."""
    directory = tmp_path_factory.mktemp(request.param)
    port = free_port()
    file = renamed(f"{request.param}/agent", directory, port)
    env = {"DASHSCOPE_API_KEY": "none", "DASHSCOPE_HTTP_BASE_URL": model.url}
    deployment = Deployment(file, directory, env=env, command=[sys.executable, str(file)], ports=(port, 0))
    yield deployment
    assert deployment.stop() == 0, deployment.log.read_text()


def process(agent: Deployment, text: str, **more: str) -> list[Any]:
    """Returns the output of the README's curl command."""
    content = [{"type": "text", "text": text}]
    body = {"input": [{"role": "user", "content": content}], **more}
    answer = httpx.post(f"{agent.url}/process", json=body, timeout=60)
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line[:1] == "d"]


def test_the_answer_is_streamed(agent: Deployment) -> None:
    events = process(agent, QUESTION)
    deltas = [event["text"] for event in events if event.get("delta")]
    assert "".join(deltas) == "The capital of France is Paris."
    assert len(deltas) > 1
    assert events[-1]["status"] == "completed"


def test_a_tool_is_called(agent: Deployment) -> None:
    output = process(agent, "six times seven")[-1]["output"]
    assert [message["type"] for message in output] == ["plugin_call", "plugin_call_output", "message"]
    assert "<stdout>42" in output[1]["content"][0]["data"]["output"]


def test_thoughts_are_told_apart(agent: Deployment) -> None:
    output = process(agent, "think")[-1]["output"]
    said = [(message["type"], message["content"][0]["text"]) for message in output]
    assert said == [("reasoning", "Hm."), ("message", "Yes.")]


def test_a_session_is_remembered(agent: Deployment, model: ScriptedModel) -> None:
    process(agent, "six times seven", session_id="s", user_id="u")
    process(agent, QUESTION, session_id="s", user_id="u")
    roles = [message["role"] for message in model.requests[-1]["input"]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
