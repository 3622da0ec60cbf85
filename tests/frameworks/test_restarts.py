"""Runs of frameworks that wait for an answer when their core is killed, or restarted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.deployment import Deployment
from support.model import ScriptedModel

from portico.client import Client
from portico.v1 import events_pb2 as pb

AGENTS = Path(__file__).parent / "agents"
ASKING = ["agentscope", "agno", "langgraph", "ms_agent_framework", "openai_agents", "pydantic_ai"]


@pytest.fixture
async def own_deployment(model: ScriptedModel, tmp_path: Path) -> AsyncIterator[Deployment]:
    started = Deployment(AGENTS / "everybody.py", tmp_path, env={"SCRIPTED_MODEL_URL": model.url})
    yield started
    started.stop()


async def ask(client: Client) -> list[tuple[str, str]]:
    runs = []
    for framework in ASKING:
        *_, paused = [event async for event in client.runs.query("book Rome", agent=framework)]
        assert paused.response.status == pb.RUN_STATUS_INPUT_REQUIRED, (framework, paused.response.error)
        runs.append((framework, paused.response.id))
    return runs


@pytest.mark.timeout(300)
async def test_a_question_outlives_its_core_and_is_answered(own_deployment: Deployment) -> None:
    async with Client(own_deployment.target) as client:
        runs = await ask(client)
        own_deployment.kill("portico.core")
        own_deployment.wait_ready()
        await client.runs.get(runs[0][1])
        runs += await ask(client)
        assert own_deployment.stop() == 0
        own_deployment.start()
        for framework, run_id in runs:
            run = await client.runs.get(run_id)
            assert run.response.status == pb.RUN_STATUS_INPUT_REQUIRED, framework
            await client.runs.resume(run_id, "yes")
            *_, end = [event async for event in client.runs.watch(run_id)]
            assert end.response.status == pb.RUN_STATUS_COMPLETED, (framework, end.response)
            output = end.response.output
            results = [m.content[0].data_json for m in output if m.type == pb.MESSAGE_TYPE_PLUGIN_CALL_OUTPUT]
            assert ["booked Rome" in result for result in results] == [True], framework
            assert output[-1].content[0].text == "Done.", framework
