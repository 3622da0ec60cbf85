"""An AutoGen agent with a tool; its state is the session's."""

from collections.abc import AsyncGenerator
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ModelInfo
from autogen_ext.models.openai import OpenAIChatCompletionClient
from common import MODEL_URL, weather

from portico.agent import AgentApp

autogen = AgentApp("autogen", "looks at the weather with AutoGen")
ABOUT = ModelInfo(
    vision=True, function_calling=True, json_output=True, family="unknown", structured_output=True
)
CLIENT = OpenAIChatCompletionClient(
    model="scripted",
    base_url=MODEL_URL,
    api_key="none",
    model_info=ABOUT,
    max_retries=0,
    stream_options={"include_usage": True},
)


async def get_weather(city: str) -> str:
    """The weather in a city."""
    return weather(city)


@autogen.query(framework="autogen")
async def query(msgs: Any, state: Any, token: Any) -> AsyncGenerator[Any, None]:
    agent = AssistantAgent(
        "friday",
        CLIENT,
        tools=[get_weather],
        system_message="be kind",
        model_client_stream=True,
        max_tool_iterations=4,
    )
    if state:
        await agent.load_state(state)
    async for item in agent.run_stream(task=msgs, cancellation_token=token):
        yield item
    state.update(await agent.save_state())
