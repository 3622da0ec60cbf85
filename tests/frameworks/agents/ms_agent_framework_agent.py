"""An agent of the Microsoft Agent Framework with tools; its session is saved."""

from collections.abc import AsyncGenerator
from typing import Any

from agent_framework import Agent, tool
from agent_framework.openai import OpenAIChatClient
from common import MODEL_URL, weather
from openai import AsyncOpenAI

from portico.agent import AgentApp

ms_agent_framework = AgentApp("ms_agent_framework", "looks at the weather with the Agent Framework")
CLIENT = AsyncOpenAI(base_url=MODEL_URL, api_key="none", max_retries=0)


@tool(approval_mode="never_require")
def get_weather(city: str) -> str:
    """The weather in a city."""
    return weather(city)


@tool(approval_mode="always_require")
def book(city: str) -> str:
    """Book a journey."""
    return f"booked {city}"


AGENT = Agent(OpenAIChatClient("scripted", async_client=CLIENT), "be kind", tools=[get_weather, book])
OPTIONS: Any = {"store": False}


@ms_agent_framework.query(framework="ms_agent_framework")
async def query(msgs: Any, session: Any) -> AsyncGenerator[Any, None]:
    async for update in AGENT.run(msgs, session=session, stream=True, options=OPTIONS):
        yield update
