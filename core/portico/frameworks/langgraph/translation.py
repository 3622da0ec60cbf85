"""Translates the stream of a LangGraph graph to the agent protocol, and its interrupts to questions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langgraph.types import Command, Interrupt

from portico.agent.builders import NewMessage, tool_output
from portico.agent.context import Context, InputRequest
from portico.frameworks.common.conversation_turns import answer_value
from portico.frameworks.common.input_requests import question_of
from portico.frameworks.langgraph.checkpointer import PorticoSaver
from portico.frameworks.langgraph.content_blocks import BlockReader, usage_of, words_of
from portico.frameworks.langgraph.messages import to_langchain
from portico.frameworks.langgraph.store import PorticoStore
from portico.model.messages import Message

MODES = ("messages", "updates", "values", "custom", "tasks", "checkpoints", "debug")


class GraphRun:
    """The translation of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._said: set[str] = set()  # ids of messages that were streamed, whole or in pieces
        self._open = ""  # the message whose pieces are being streamed
        self._reader = BlockReader()
        # pieces of concurrent messages, which are held back
        self._waiting: dict[str, list[AIMessageChunk]] = {}
        self._asking: list[Interrupt] = []
        self._answers: dict[str, Any] = {}

    async def begin(self) -> Mapping[str, Any]:
        messages = to_langchain(self._context.request.input)
        return self._arguments(messages, {"messages": messages})

    def _arguments(self, messages: Sequence[BaseMessage], input: Any) -> Mapping[str, Any]:
        context = self._context
        return {
            "msgs": messages,
            "input": input,
            "config": {
                "configurable": {
                    "thread_id": context.session_id,
                    "user_id": context.user_id,
                    "run_id": context.run_id,
                }
            },
            "checkpointer": PorticoSaver(context),
            "store": PorticoStore(context),
        }

    def say(self, item: Any) -> Iterable[object]:
        if isinstance(item, tuple):
            return self._tuple(item)
        if isinstance(item, BaseMessage):
            return self._message(item)
        if isinstance(item, Mapping):
            return self._mapping(item)
        raise TypeError(f"a LangGraph agent may yield what a graph streams, not {type(item).__name__}")

    def _tuple(self, item: tuple[Any, ...]) -> Iterable[object]:
        """Returns (message, metadata), or a payload with its mode, its namespace or both."""
        if isinstance(item[0], BaseMessage):
            return self._message(item[0])
        if isinstance(item[0], tuple):
            item = item[1:]
        if len(item) == 2 and isinstance(item[0], str):
            return self._payload(item[0], item[1])
        return self.say(item[0])

    def _mapping(self, item: Mapping[str, Any]) -> Iterable[object]:
        if "type" in item and "ns" in item and "data" in item:  # stream version 2
            self._interrupted(item.get("interrupts"))
            return self._payload(str(item["type"]), item["data"])
        return self._payload("updates", item)

    def _payload(self, mode: str, payload: Any) -> Iterable[object]:
        if mode == "messages":
            return self._message(payload[0] if isinstance(payload, tuple | list) else payload)
        if mode == "custom":
            # The graph's author writes these as a function without a graph would.
            return (payload,)
        if mode in ("updates", "values") and isinstance(payload, Mapping):
            return list(self._state(payload))
        if mode in MODES:
            return ()  # internal events of the graph, not output
        raise TypeError(f"not a stream mode of LangGraph: {mode!r}")

    def _state(self, payload: Mapping[str, Any]) -> Iterator[object]:
        """Returns the messages in a state or in a node's update that were not streamed."""
        self._interrupted(payload.get("__interrupt__"))
        for value in (payload, *payload.values()):
            messages = value.get("messages") if isinstance(value, Mapping) else None
            for message in messages if isinstance(messages, list | tuple) else (messages,):
                if isinstance(message, AIMessage | ToolMessage):
                    yield from self._message(message)

    def _interrupted(self, interrupts: Any) -> None:
        known = {interrupt.id for interrupt in self._asking}
        for interrupt in interrupts or ():
            if isinstance(interrupt, Interrupt) and interrupt.id not in known:
                self._asking.append(interrupt)

    def _message(self, message: BaseMessage) -> Iterable[object]:
        if type(message) is AIMessageChunk:
            return self._chunk(message)
        id = message.id or ""
        if not isinstance(message, AIMessage | ToolMessage) or (id and id in self._said):
            return ()
        self._said.add(id)
        if isinstance(message, ToolMessage):
            return [*self.rest(), self._result(message)]
        return [*self.rest(), *BlockReader().read(message), *usage_of(message), NewMessage()]

    def _result(self, message: ToolMessage) -> Message:
        output, media = words_of(message.content)
        said = tool_output(message.tool_call_id, output, name=message.name or "")
        about = {"status": "error"} if message.status == "error" else {}
        return Message(said.role, (*said.content, *media), said.type, metadata=about)

    def _chunk(self, chunk: AIMessageChunk) -> Iterable[object]:
        id = chunk.id or self._open
        content = chunk.content
        if id != self._open:
            self._said.add(id)
            if not content and not chunk.tool_call_chunks and chunk.chunk_position != "last":
                return ()  # a first piece, whose id may differ from the id of the next ones
            if self._open:
                # Nodes execute concurrently: one message is streamed at a time, the others after it.
                self._waiting.setdefault(id, []).append(chunk)
                return ()
            self._open = id
            self._reader = BlockReader()
        if type(content) is str and content and not chunk.tool_call_chunks and not chunk.additional_kwargs:
            said: list[object] = [content]
        else:
            said = self._reader.read(chunk)
        if chunk.usage_metadata is not None:
            said += usage_of(chunk)
        if chunk.chunk_position == "last":
            said += self._next()
        return said

    def _next(self) -> list[object]:
        """Completes the open message and continues with one that was held back."""
        said: list[object] = [NewMessage()]
        self._open = ""
        if self._waiting:
            chunks = self._waiting.pop(next(iter(self._waiting)))
            for chunk in chunks:
                said += self._chunk(chunk)
        return said

    def rest(self) -> Iterable[object]:
        said: list[object] = []
        while self._open:
            said += self._next()
        return said

    def question(self) -> InputRequest | None:
        if not self._asking:
            return None
        return question_of(self._context, self._asking[0].value)

    def answered(self, answer: Sequence[Message]) -> Mapping[str, Any] | None:
        self._answers[self._asking.pop(0).id] = answer_value(answer)
        if self._asking:
            return None
        answers, self._answers = self._answers, {}
        return self._arguments(to_langchain(answer), Command(resume=answers))

    async def end(self) -> None:
        """Does nothing: the checkpointer has already saved everything."""
