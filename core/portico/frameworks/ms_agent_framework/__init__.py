"""Adapter of the Microsoft Agent Framework. `pip install "portico-runtime[ms_agent_framework]"`.

A query function gets `msgs` and `session` for `agent.run(msgs, session=session, stream=True)`; the session
is saved when the run ends. It yields the updates. After an approval `msgs` are the answers to it.
"""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.frameworks.ms_agent_framework.messages import to_agent_framework
from portico.frameworks.ms_agent_framework.tools import mcp_tools, sandbox_tool_adapter, sandbox_tools
from portico.frameworks.ms_agent_framework.translation import AgentFrameworkRun

__all__ = ["Adapter", "mcp_tools", "sandbox_tool_adapter", "sandbox_tools", "to_agent_framework"]


class Adapter:
    """The framework adapter."""

    parameters: Sequence[str] = ("msgs", "session")

    def open(self, context: Context) -> AgentFrameworkRun:
        return AgentFrameworkRun(context)
