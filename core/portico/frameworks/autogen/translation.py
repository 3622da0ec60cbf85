"""Translates the stream of AutoGen to the agent protocol."""

from collections.abc import Iterable, Mapping
from typing import Any

from autogen_agentchat.base import Response, TaskResult
from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
    ModelClientStreamingChunkEvent,
    MultiModalMessage,
    StructuredMessage,
    ThoughtEvent,
    ToolCallExecutionEvent,
    ToolCallRequestEvent,
    ToolCallSummaryMessage,
)
from autogen_core import CancellationToken

from portico.agent.adapter_interface import OneWayTranslation
from portico.agent.builders import CallDelta, Delta, NewMessage, data, image, tool_output
from portico.agent.context import Context
from portico.frameworks.autogen.messages import to_autogen
from portico.model.messages import Message, MessageType, Usage

_REASONING = MessageType.REASONING
_THINKS, _THOUGHT = "<think>", "</think>"


class AutoGenRun(OneWayTranslation):
    """The translation of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept = context.state.part("autogen")
        self._state: dict[str, Any] = {}
        self._token = CancellationToken()
        self._given: frozenset[str] = frozenset()
        self._streamed: set[str] = set()  # sources that have streamed pieces since their last message
        self._thinking = False
        self._thought = False  # whether reasoning was streamed

    async def begin(self) -> Mapping[str, Any]:
        saved = await self._kept.load()
        self._state = dict(saved.state) if saved else {}
        messages = to_autogen(self._context.request.input)
        self._given = frozenset(message.id for message in messages)
        return {"msgs": messages, "state": self._state, "token": self._token}

    def say(self, item: Any) -> Iterable[object]:
        if type(item) is ModelClientStreamingChunkEvent:
            return self._piece(item)
        if isinstance(item, TaskResult):
            return ()  # all of it was already streamed
        if isinstance(item, Response):
            return self.say(item.chat_message)
        if isinstance(item, BaseAgentEvent | BaseChatMessage):
            return [] if item.id in self._given else [*self._message(item), *_usage(item)]
        raise TypeError(f"an AutoGen agent may yield what run_stream gives, not {type(item).__name__}")

    def _piece(self, item: ModelClientStreamingChunkEvent) -> list[object]:
        words = item.content
        if not self._thinking and not words.startswith(_THINKS):
            self._streamed.add(item.source)
            return [words]
        # The model's reasoning arrives within the text, between tags.
        thought, mark, words = words.removeprefix(_THINKS).partition(_THOUGHT)
        self._thinking = not mark
        self._thought = True
        said: list[object] = [Delta(thought, _REASONING)] if thought else []
        if words:
            self._streamed.add(item.source)
            said.append(words)
        return said

    def _message(self, item: Any) -> list[object]:
        if isinstance(item, ToolCallRequestEvent):
            self._streamed.discard(item.source)
            return [CallDelta(call.id, call.name, call.arguments) for call in item.content]
        if isinstance(item, ToolCallExecutionEvent):
            return [_result(result) for result in item.content]
        if isinstance(item, ThoughtEvent):
            # Text beside a call, or reasoning: skipped if it was streamed.
            told = self._thought or self._came(item)
            self._thought = False
            return [] if told else [Delta(item.content, _REASONING)]
        if isinstance(item, MultiModalMessage):
            return [p if isinstance(p, str) else image(p.data_uri) for p in item.content] + [NewMessage()]
        if isinstance(item, StructuredMessage):
            return [data(item.content.model_dump(mode="json"))]
        if isinstance(item, ToolCallSummaryMessage):
            return [NewMessage(), item.content, NewMessage()]
        if isinstance(item, BaseChatMessage):
            return [NewMessage()] if self._came(item) else [item.to_text(), NewMessage()]
        return []  # internal events of the team, not output

    def _came(self, item: Any) -> bool:
        """Returns whether the message was streamed in pieces."""
        came = item.source in self._streamed
        self._streamed.discard(item.source)
        return came

    async def end(self) -> None:
        self._token.cancel()
        if self._state:
            await self._kept.save(self._state, round_id=1)


def _result(result: Any) -> Message:
    said = tool_output(result.call_id, result.content, name=result.name)
    about = {"status": "error"} if result.is_error else {}
    return Message(said.role, said.content, said.type, metadata=about)


def _usage(item: Any) -> list[object]:
    used = item.models_usage
    return [Usage(used.prompt_tokens, used.completion_tokens)] if used is not None else []
