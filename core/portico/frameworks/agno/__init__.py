"""Adapter of Agno. `pip install "portico-runtime[agno]"`.

A query function gets `msgs`, for `agent.arun(msgs, stream=True, stream_events=True, session_id=…)`; `db`,
an Agno database that is stored in the session; and `paused`, which is None, or after a question the
arguments of `agent.acontinue_run(**paused, stream=True, stream_events=True)`. It yields the events.
"""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.frameworks.agno.messages import to_agno
from portico.frameworks.agno.tools import mcp_tools, sandbox_tool_adapter, sandbox_tools
from portico.frameworks.agno.translation import AgnoRun

__all__ = ["Adapter", "mcp_tools", "sandbox_tool_adapter", "sandbox_tools", "to_agno"]


class Adapter:
    """The framework adapter."""

    parameters: Sequence[str] = ("msgs", "db", "paused")

    def open(self, context: Context) -> AgnoRun:
        return AgnoRun(context)
