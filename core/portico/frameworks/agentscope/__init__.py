"""Adapter of AgentScope 2. `pip install "portico-runtime[agentscope]"`.

A query function gets `msgs` (AgentScope's Msg), `input` for `agent.reply_stream(input)`, and `state`, the
AgentState of the session, which is saved when the run ends. It yields the agent's events, or (Msg, last)
pairs.
"""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.frameworks.agentscope.messages import to_agentscope
from portico.frameworks.agentscope.tools import mcp_tools, sandbox_tool_adapter, sandbox_tools
from portico.frameworks.agentscope.translation import AgentRun

__all__ = ["Adapter", "mcp_tools", "sandbox_tool_adapter", "sandbox_tools", "to_agentscope"]


class Adapter:
    """The framework adapter."""

    parameters: Sequence[str] = ("msgs", "input", "state")

    def open(self, context: Context) -> AgentRun:
        return AgentRun(context)
