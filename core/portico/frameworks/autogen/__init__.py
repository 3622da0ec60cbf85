"""Adapter of AutoGen (AgentChat). docs/frameworks.md describes its installation beside Portico.

A query function gets `msgs`, for `agent.run_stream(task=msgs, cancellation_token=token)`; `token`, which
is cancelled with the run; and `state`, a dict that is saved in the session: call `await
agent.load_state(state)` if it is not empty, and at the end `state.update(await agent.save_state())`. It
yields the stream's items.
"""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.frameworks.autogen.messages import to_autogen
from portico.frameworks.autogen.tools import mcp_tools, sandbox_tool_adapter, sandbox_tools
from portico.frameworks.autogen.translation import AutoGenRun

__all__ = ["Adapter", "mcp_tools", "sandbox_tool_adapter", "sandbox_tools", "to_autogen"]


class Adapter:
    """The framework adapter."""

    parameters: Sequence[str] = ("msgs", "state", "token")

    def open(self, context: Context) -> AutoGenRun:
        return AutoGenRun(context)
