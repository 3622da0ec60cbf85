"""A Pydantic AI agent."""

from collections.abc import AsyncGenerator
from typing import Any

from common import MODEL_URL, weather
from openai import AsyncOpenAI
from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from portico.agent import AgentApp

pydantic_ai = AgentApp("pydantic_ai", "looks at the weather with Pydantic AI")
CLIENT = AsyncOpenAI(base_url=MODEL_URL, api_key="none", max_retries=0)
AGENT = Agent(
    OpenAIChatModel("scripted", provider=OpenAIProvider(openai_client=CLIENT)),
    output_type=[str, DeferredToolRequests],
)


@AGENT.tool_plain
def get_weather(city: str) -> str:
    """The weather in a city."""
    return weather(city)


@AGENT.tool_plain(requires_approval=True)
def book(city: str) -> str:
    """Book a journey."""
    return f"booked {city}"


@pydantic_ai.query(framework="pydantic_ai")
async def query(prompt: Any, history: Any, deferred: Any) -> AsyncGenerator[Any, None]:
    async with AGENT.run_stream_events(
        prompt, message_history=history, deferred_tool_results=deferred
    ) as events:
        async for event in events:
            yield event
