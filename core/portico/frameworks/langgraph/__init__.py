"""Adapter of LangGraph and of LangChain's messages. `pip install "portico-runtime[langgraph]"`.

A query function gets `msgs` (LangChain messages), `input` and `config` for `graph.astream(input, config)`,
and `checkpointer` and `store` for compiling or calling a graph. It yields the graph's stream, in any mode.
"""

from collections.abc import Sequence

from portico.agent.context import Context
from portico.frameworks.langgraph.checkpointer import PorticoSaver
from portico.frameworks.langgraph.messages import to_langchain
from portico.frameworks.langgraph.store import PorticoStore
from portico.frameworks.langgraph.tools import mcp_tools, sandbox_tool_adapter, sandbox_tools
from portico.frameworks.langgraph.translation import GraphRun

__all__ = [
    "Adapter",
    "PorticoSaver",
    "PorticoStore",
    "mcp_tools",
    "sandbox_tool_adapter",
    "sandbox_tools",
    "to_langchain",
]


class Adapter:
    """The framework adapter."""

    parameters: Sequence[str] = ("msgs", "input", "config", "checkpointer", "store")

    def open(self, context: Context) -> GraphRun:
        return GraphRun(context)
