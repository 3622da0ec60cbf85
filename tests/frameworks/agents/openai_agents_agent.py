"""An agent of the OpenAI Agents SDK."""

from collections.abc import AsyncGenerator
from typing import Any

from agents import Agent, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from common import MODEL_URL, weather
from openai import AsyncOpenAI

from portico.agent import AgentApp

openai_agents = AgentApp("openai_agents", "looks at the weather with the OpenAI Agents SDK")
set_tracing_disabled(True)


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return weather(city)


@function_tool(needs_approval=True)
def book(city: str) -> str:
    """Book a journey."""
    return f"booked {city}"


CLIENT = AsyncOpenAI(base_url=MODEL_URL, api_key="none", max_retries=0)
AGENT = Agent(name="friday", model=OpenAIResponsesModel("scripted", CLIENT), tools=[get_weather, book])


@openai_agents.query(framework="openai_agents")
async def query(input: Any, session: Any) -> AsyncGenerator[Any, None]:
    result = Runner.run_streamed(AGENT, input, session=session)
    async for event in result.stream_events():
        yield event
    yield result
