"""An AgentScope agent with tools; its memory is its state."""

from collections.abc import AsyncGenerator
from typing import Any

from agentscope.agent import Agent
from agentscope.credential import OpenAICredential
from agentscope.message import TextBlock
from agentscope.model import OpenAIChatModel
from agentscope.permission import PermissionBehavior, PermissionDecision
from agentscope.tool import FunctionTool, ToolChunk, Toolkit
from common import MODEL_URL, weather

from portico.agent import AgentApp

agentscope = AgentApp("agentscope", "looks at the weather with AgentScope")


async def get_weather(city: str) -> ToolChunk:
    """The weather in a city."""
    return ToolChunk(content=[TextBlock(text=weather(city))])


async def book(city: str) -> ToolChunk:
    """Book a journey."""
    return ToolChunk(content=[TextBlock(text=f"booked {city}")])


class Trusted(FunctionTool):
    """A tool without permission requests."""

    async def check_permissions(self, *_arguments: Any, **_named: Any) -> PermissionDecision:
        return PermissionDecision(behavior=PermissionBehavior.ALLOW, message="harmless")


MODEL = OpenAIChatModel(
    OpenAICredential(api_key="none", base_url=MODEL_URL),  # type: ignore[arg-type]
    "scripted",
    max_retries=0,
    client_kwargs={"max_retries": 0},
)


@agentscope.query(framework="agentscope")
async def query(input: Any, state: Any) -> AsyncGenerator[Any, None]:
    toolkit = Toolkit([Trusted(get_weather), FunctionTool(book)])
    agent = Agent("friday", "be kind", MODEL, toolkit, state=state)
    async for event in agent.reply_stream(input):
        yield event
