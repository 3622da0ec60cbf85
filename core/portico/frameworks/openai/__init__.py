"""OpenAI's SDK, and every endpoint that speaks as OpenAI's does. `pip install "portico-runtime[openai]"`.

What it streams can be yielded without naming a framework. With one, a query function gets `msgs` and
`history` as chat messages, and `input` as items of the Responses API, history included.
"""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.frameworks.openai.messages import to_chat, to_items
from portico.frameworks.openai.tools import mcp_tools, sandbox_tool_adapter, sandbox_tools
from portico.frameworks.openai.translation import OpenAiRun

__all__ = ["Adapter", "mcp_tools", "sandbox_tool_adapter", "sandbox_tools", "to_chat", "to_items"]


class Adapter:
    """The Framework. It reads what the SDK makes by its fields, and needs no SDK for that."""

    parameters: Sequence[str] = ("msgs", "history", "input")

    def open(self, context: Context) -> OpenAiRun:
        return OpenAiRun(context)
