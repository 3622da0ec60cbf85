"""Measures the cost of an adapter for each chunk of its framework: `make bench-frameworks`.

It is the time from the chunk to the run's sink, without the framework and without the run.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, cast

from portico.agent import AgentRequest, Context, Message, Role
from portico.agent.adapter_registry import load_framework
from portico.core.hosts.local.adapter_sink import AdapterSink

CHUNKS = 20_000
ROUNDS = 9
LIMIT_US = 25.0


class Nowhere:
    """State and memory that are never read."""

    def part(self, name: str) -> "Nowhere":
        return self


@dataclass
class Run:
    """A sink that discards its input."""

    needs_drain: bool = False

    async def drain(self) -> None: ...

    def emit(self, item: object) -> None: ...


def context() -> Context:
    request = AgentRequest("bench", [Message(Role.USER, ())], "s", "u")
    nowhere = cast(Any, Nowhere())
    loop = ask = take = cast(Any, None)
    return Context(
        run_id="resp_1",
        request=request,
        attempt=1,
        state=nowhere,
        session=nowhere,
        memory=nowhere,
        agent_memory=nowhere,
        ask=ask,
        take_input=take,
        loop=loop,
        results=nowhere,
        once=nowhere,
    )


def chunks() -> Iterator[tuple[str, str, Any]]:
    """Yields a framework's name, the kind of stream, and one chunk as the framework creates it."""
    from agent_framework import AgentResponseUpdate, Content
    from agents.stream_events import RawResponsesStreamEvent
    from agentscope.event import TextBlockDeltaEvent, ToolCallDeltaEvent
    from agno.run.agent import RunContentEvent
    from autogen_agentchat.messages import ModelClientStreamingChunkEvent
    from langchain_core.messages import AIMessageChunk
    from openai.types.chat import ChatCompletionChunk
    from openai.types.responses import ResponseTextDeltaEvent
    from pydantic_ai.messages import PartDeltaEvent, TextPartDelta

    word = "word "
    piece = {"index": 0, "id": "c1", "name": "look", "args": word, "type": "tool_call_chunk"}
    call = AIMessageChunk(content="", id="1", tool_call_chunks=[cast(Any, piece)])
    delta = {"type": "response.output_text.delta", "delta": word, "item_id": "m", "output_index": 0}
    event = ResponseTextDeltaEvent.model_validate(
        {**delta, "content_index": 0, "sequence_number": 1, "logprobs": []}
    )
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    chunk = ChatCompletionChunk.model_validate({**head, "choices": [choice]})
    yield "langgraph", "text", ("messages", (AIMessageChunk(content=word, id="1"), {"langgraph_node": "a"}))
    yield "langgraph", "arguments", ("messages", (call, {"langgraph_node": "a"}))
    yield "agentscope", "text", TextBlockDeltaEvent(reply_id="r", block_id="b", delta=word)
    yield "agentscope", "arguments", ToolCallDeltaEvent(reply_id="r", tool_call_id="c", delta=word)
    yield "openai", "text, Chat Completions", chunk
    yield "openai", "text, Responses", event
    yield "openai_agents", "text", RawResponsesStreamEvent(data=event)
    yield "pydantic_ai", "text", PartDeltaEvent(index=0, delta=TextPartDelta(content_delta=word))
    yield "agno", "text", RunContentEvent(content=word)
    yield (
        "ms_agent_framework",
        "text",
        AgentResponseUpdate(contents=[Content.from_text(word)], role="assistant"),
    )
    yield "autogen", "text", ModelClientStreamingChunkEvent(content=word, source="a")


def microseconds(emit: Callable[[Any], None], chunk: Any) -> float:
    start = time.perf_counter()
    for _ in range(CHUNKS):
        emit(chunk)
    return (time.perf_counter() - start) / CHUNKS * 1e6


def main() -> None:
    print(f"| framework | chunk | median of {ROUNDS} | least |\n| --- | --- | --- | --- |")
    slow = []
    for name, kind, chunk in chunks():
        sink = AdapterSink(Run(), context(), load_framework(name).open(context()))
        figures = [microseconds(sink.emit, chunk) for _ in range(ROUNDS)]
        print(f"| {name} | {kind} | {median(figures):.2f} us | {min(figures):.2f} us |")
        if median(figures) > LIMIT_US:
            slow.append(name)
    if slow:
        raise SystemExit(f"more than {LIMIT_US:g} us: {', '.join(slow)}")


if __name__ == "__main__":
    main()
