"""One agent of every framework, in one core."""

from agentscope_agent import agentscope
from agno_agent import agno
from autogen_agent import autogen
from langgraph_agent import langgraph
from ms_agent_framework_agent import ms_agent_framework
from openai_agent import openai
from openai_agents_agent import openai_agents
from pydantic_ai_agent import pydantic_ai

__all__ = [
    "agentscope",
    "agno",
    "autogen",
    "langgraph",
    "ms_agent_framework",
    "openai",
    "openai_agents",
    "pydantic_ai",
]
