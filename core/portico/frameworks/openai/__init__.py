"""Adapter of OpenAI's SDK, and of compatible endpoints. `pip install "portico-runtime[openai]"`.

A function can yield the SDK's streams without naming a framework. With this framework, a query function
gets `msgs` and `history` as chat messages, and `input` as items of the Responses API, history included.
"""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.frameworks.openai.messages import to_chat, to_items
from portico.frameworks.openai.tools import mcp_tools, sandbox_tool_adapter, sandbox_tools
from portico.frameworks.openai.translation import OpenAiRun

__all__ = ["Adapter", "mcp_tools", "sandbox_tool_adapter", "sandbox_tools", "to_chat", "to_items"]


class Adapter:
    """The framework adapter. It reads the fields of the SDK's objects, and does not import the SDK."""

    parameters: Sequence[str] = ("msgs", "history", "input")

    def open(self, context: Context) -> OpenAiRun:
        return OpenAiRun(context)
