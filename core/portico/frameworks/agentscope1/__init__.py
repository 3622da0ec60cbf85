"""Adapter of AgentScope 1, for existing programs; new programs use version 2 with the adapter `agentscope`.

A query function gets `msgs`; `memory`, the session as the agent's memory; and `state`, a dict that is
saved in the session: call `agent.load_state_dict(state, strict=False)` before, and
`state.update(agent.state_dict())` after. It yields the (Msg, last) pairs of `stream_printing_messages`.
AgentScope 1 requires mcp<2, with which Portico has no MCP gateway.
"""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.frameworks.agentscope1.messages import to_agentscope1
from portico.frameworks.agentscope1.translation import AgentRun

__all__ = ["Adapter", "to_agentscope1"]


class Adapter:
    """The framework adapter."""

    parameters: Sequence[str] = ("msgs", "memory", "state")

    def open(self, context: Context) -> AgentRun:
        return AgentRun(context)
