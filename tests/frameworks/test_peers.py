"""Agents of different frameworks that call each other over A2A."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.deployment import Deployment
from support.model import Call, Reply, ScriptedModel

from portico.client import Client

AGENTS = Path(__file__).parent / "agents"
SCRIPT = {
    "ask your colleague": [
        Reply(calls=[Call("call_1", "ask", ['{"question": "where is', ' the sun?"}'])]),
        Reply(["My colleague says: ", "in Rome."]),
    ],
    "where is the sun": [
        Reply(calls=[Call("call_2", "get_weather", ['{"city": "Rome"}'])]),
        Reply(["The sun is in Rome."]),
    ],
}


@pytest.fixture
def colleagues(tmp_path: Path) -> Iterator[tuple[Deployment, ScriptedModel]]:
    model = ScriptedModel(SCRIPT)
    started = Deployment(AGENTS / "colleagues.py", tmp_path, env={"SCRIPTED_MODEL_URL": model.url})
    yield started, model
    started.stop()
    model.stop()


async def test_an_agent_of_langgraph_asks_one_of_pydantic_ai(
    colleagues: tuple[Deployment, ScriptedModel],
) -> None:
    deployment, model = colleagues
    async with Client(deployment.target) as client:
        question = f"ask your colleague at {deployment.url}/agents/pydantic_ai"
        said = await client.runs.query(question, agent="asker").text()
    assert said == "My colleague says: in Rome."
    results = [
        message["content"]
        for request in model.requests
        for message in request.get("messages", ())
        if message["role"] == "tool"
    ]
    assert results == ["sunny in Rome", "The sun is in Rome."]
