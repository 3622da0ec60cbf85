"""An Agno agent with tools; its sessions are stored in the session's state."""

from collections.abc import AsyncGenerator
from typing import Any

from agno.agent import Agent
from agno.models.openai import OpenAILike
from agno.tools import tool
from common import MODEL_URL, weather

from portico.agent import AgentApp, Context

agno = AgentApp("agno", "looks at the weather with Agno")


def get_weather(city: str) -> str:
    """The weather in a city."""
    return weather(city)


@tool(requires_confirmation=True)
def book(city: str) -> str:
    """Book a journey."""
    return f"booked {city}"


@agno.query(framework="agno")
async def query(msgs: Any, db: Any, paused: Any, context: Context) -> AsyncGenerator[Any, None]:
    agent = Agent(
        model=OpenAILike(id="scripted", base_url=MODEL_URL, api_key="none", max_retries=0),
        tools=[get_weather, book],
        db=db,
        add_history_to_context=True,
        telemetry=False,
    )
    if paused is None:
        events = agent.arun(msgs, stream=True, stream_events=True, session_id=context.session_id)
    else:
        events = agent.acontinue_run(**paused, stream=True, stream_events=True)
    async for event in events:
        yield event
