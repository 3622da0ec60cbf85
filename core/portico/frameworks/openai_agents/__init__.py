"""Adapter of the OpenAI Agents SDK. `pip install "portico-runtime[openai_agents]"`.

A query function gets `msgs` (the request as input items), `input` for `Runner.run_streamed(agent, input,
session=session)`, and `session`, the run's session. It yields the stream's events, and finally the result
itself if tools may need approval: then the run asks, and calls the function again with the state as
`input`.
"""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.frameworks.openai_agents.tools import mcp_tools, sandbox_tool_adapter, sandbox_tools
from portico.frameworks.openai_agents.translation import AgentsRun, PorticoSession

__all__ = ["Adapter", "PorticoSession", "mcp_tools", "sandbox_tool_adapter", "sandbox_tools"]


class Adapter:
    """The framework adapter."""

    parameters: Sequence[str] = ("msgs", "input", "session")

    def open(self, context: Context) -> AgentsRun:
        return AgentsRun(context)
