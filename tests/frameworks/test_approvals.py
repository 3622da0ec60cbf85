"""Tools that require approval: the run waits, and continues after a yes or a no."""

import json

import pytest

from portico.client import Client
from portico.v1 import events_pb2 as pb

ASKING = ["agentscope", "agno", "ms_agent_framework", "openai_agents", "pydantic_ai"]


async def answered(client: Client, framework: str, answer: object) -> pb.Response:
    events = [event async for event in client.runs.query("book Rome", agent=framework)]
    paused = events[-1].response
    assert paused.status == pb.RUN_STATUS_INPUT_REQUIRED, paused.error
    assert paused.input_request.prompt.startswith("May book be called with ")
    assert json.loads(paused.input_request.schema_json)["required"] == ["approve"]
    run = await client.runs.resume(paused.id, answer)  # type: ignore[arg-type]
    events = [event async for event in client.runs.watch(paused.id, after=run.last_sequence_number)]
    assert events[-1].response.status == pb.RUN_STATUS_COMPLETED, events[-1].response.error
    return events[-1].response


@pytest.mark.parametrize("framework", ASKING)
async def test_a_yes_calls_the_tool(client: Client, framework: str) -> None:
    output = (await answered(client, framework, "Yes.")).output
    results = [m.content[0].data_json for m in output if m.type == pb.MESSAGE_TYPE_PLUGIN_CALL_OUTPUT]
    assert ["booked Rome" in result for result in results] == [True]
    assert output[-1].content[0].text == "Done."


@pytest.mark.parametrize("framework", ASKING)
@pytest.mark.parametrize("answer", ["perhaps", "no"])
async def test_everything_else_does_not(client: Client, framework: str, answer: str) -> None:
    output = (await answered(client, framework, answer)).output
    assert not any("booked Rome" in part.data_json for message in output for part in message.content)
    assert output[-1].content[0].text == "Done."
