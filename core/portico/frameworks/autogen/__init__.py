"""AutoGen (AgentChat). docs/frameworks.md has how to install it beside Portico.

A query function gets `msgs`, for `agent.run_stream(task=msgs, cancellation_token=token)`; `token`, which is
cancelled with the run; and `state`, a dict that is the session's: `await agent.load_state(state)` if there is
something in it, and at the end `state.update(await agent.save_state())`. It yields what is streamed.
"""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.frameworks.autogen.messages import to_autogen
from portico.frameworks.autogen.tools import mcp_tools, sandbox_tool_adapter, sandbox_tools
from portico.frameworks.autogen.translation import AutoGenRun

__all__ = ["Adapter", "mcp_tools", "sandbox_tool_adapter", "sandbox_tools", "to_autogen"]


class Adapter:
    """The Framework."""

    parameters: Sequence[str] = ("msgs", "state", "token")

    def open(self, context: Context) -> AutoGenRun:
        return AutoGenRun(context)
