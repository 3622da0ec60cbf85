"""The OpenAI Agents SDK executes a small agent with a tool against the gateway."""

from collections.abc import Iterator
from pathlib import Path

import agents
import pytest
from openai import AsyncOpenAI
from support.deployment import Deployment

AGENT = Path(__file__).parent / "agents" / "chatting.py"


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    started = Deployment(AGENT, tmp_path)
    yield started
    started.stop()


async def test_a_tool_is_called_and_its_result_comes_back(deployment: Deployment) -> None:
    agents.set_tracing_disabled(True)

    @agents.function_tool
    def get_weather(city: str) -> str:
        return f"sunny in {city}"

    said = "The tool said sunny in Paris."
    async with AsyncOpenAI(base_url=f"{deployment.url}/v1", api_key="none", max_retries=0) as client:
        model = agents.OpenAIResponsesModel("scripted", client)
        agent = agents.Agent(name="asker", instructions="be kind", model=model, tools=[get_weather])
        run = agents.Runner.run
        assert (await run(agent, "call get_weather")).final_output == said
        streamed = agents.Runner.run_streamed(agent, "call get_weather")
        assert [event.type async for event in streamed.stream_events()]
        assert streamed.final_output == said
        chained = await run(agent, "call get_weather", auto_previous_response_id=True)
        assert chained.final_output == said
        conversation = await client.conversations.create()
        talked = await run(agent, "call get_weather", conversation_id=conversation.id)
        assert talked.final_output == said
        session = agents.OpenAIConversationsSession(openai_client=client)
        assert (await run(agent, "call get_weather", session=session)).final_output == said
        assert [item["type"] for item in await session.get_items()] == [
            "message",
            "function_call",
            "function_call_output",
            "message",
        ]
