"""Translates streams of OpenAI's SDK to the agent protocol."""

from collections.abc import Iterable, Mapping
from typing import Any

from portico.agent.adapter_interface import OneWayTranslation
from portico.agent.context import Context
from portico.frameworks.common.history import earlier_messages
from portico.frameworks.openai.chat_completions import ChatReader
from portico.frameworks.openai.fields import get
from portico.frameworks.openai.messages import to_chat, to_items
from portico.frameworks.openai.responses import ResponsesReader


class OpenAiRun(OneWayTranslation):
    """The translation of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        tools = frozenset(tool.name for tool in context.request.tools)
        self._chat = ChatReader(tools)
        self._responses = ResponsesReader(tools)

    async def begin(self) -> Mapping[str, Any]:
        given = self._context.request.input
        before = await earlier_messages(self._context)
        return {
            "msgs": to_chat(given),
            "history": to_chat(before),
            "input": to_items([*before, *given]),
        }

    def say(self, item: Any) -> Iterable[object]:
        kind = get(item, "object")
        if kind == "chat.completion.chunk" or (kind is None and get(item, "choices") is not None):
            return self._chat.chunk(item)
        if kind == "chat.completion":
            return self._chat.whole(item)
        if kind == "response":
            return self._responses.whole(item)
        # The SDK's helper for chat streams wraps the chunks in events, and adds some of its own.
        if (chunk := get(item, "chunk")) is not None:
            return self._chat.chunk(chunk)
        if isinstance(get(item, "type"), str):
            return self._responses.event(item)
        raise TypeError(f"not an object that OpenAI's SDK streams: {type(item).__name__}")

    def rest(self) -> Iterable[object]:
        return self._chat.rest()
