"""An agent of every framework, in one core."""

from agentscope_agent import agentscope
from langgraph_agent import langgraph

__all__ = ["agentscope", "langgraph"]
