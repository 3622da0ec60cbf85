"""Adapter of Pydantic AI. `pip install "portico-runtime[pydantic_ai]"`.

A query function gets `prompt`, `history` and `deferred` for `agent.run_stream_events(prompt,
message_history=history, deferred_tool_results=deferred)`, and `msgs`, the request as model messages. It
yields the events.
"""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.frameworks.pydantic_ai.messages import to_pydantic_ai
from portico.frameworks.pydantic_ai.tools import mcp_tools, sandbox_tool_adapter, sandbox_tools
from portico.frameworks.pydantic_ai.translation import PydanticRun

__all__ = ["Adapter", "mcp_tools", "sandbox_tool_adapter", "sandbox_tools", "to_pydantic_ai"]


class Adapter:
    """The framework adapter."""

    parameters: Sequence[str] = ("msgs", "prompt", "history", "deferred")

    def open(self, context: Context) -> PydanticRun:
        return PydanticRun(context)
