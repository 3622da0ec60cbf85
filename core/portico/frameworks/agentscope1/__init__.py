"""AgentScope 1, for programs written for it; new ones use version 2, whose adapter is `agentscope`.

A query function gets `msgs`; `memory`, which is the session, for the agent; and `state`, a dict that is the
session's: `agent.load_state_dict(state, strict=False)` before, `state.update(agent.state_dict())` after.
It yields the (Msg, last) pairs of `stream_printing_messages`. AgentScope 1 asks for mcp<2, with which
Portico has no MCP gateway.
"""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.frameworks.agentscope1.messages import to_agentscope1
from portico.frameworks.agentscope1.translation import AgentRun

__all__ = ["Adapter", "to_agentscope1"]


class Adapter:
    """The Framework."""

    parameters: Sequence[str] = ("msgs", "memory", "state")

    def open(self, context: Context) -> AgentRun:
        return AgentRun(context)
