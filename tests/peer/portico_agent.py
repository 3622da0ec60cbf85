"""The scripts of app.py as an agent of Portico."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from portico.agent import (
    AgentApp,
    AgentRequest,
    Context,
    Message,
    MessageType,
    data,
    image,
    new_message,
    reasoning,
    tool_call,
    tool_output,
)

app = AgentApp("scripted", "says what it is told to")

WEATHER = {"city": "Paris"}


def text() -> Iterator[object]:
    yield "The"
    yield " capital"
    yield " is Paris."


def whole_text() -> Iterator[object]:
    yield "The capital is Paris."


def tool() -> Iterator[object]:
    yield tool_call("get_weather", WEATHER, call_id="call_1")
    yield tool_output("call_1", [{"type": "text", "text": "sunny"}], name="get_weather")
    yield "It is"
    yield " sunny."


def mcp_tool() -> Iterator[object]:
    call = MessageType.MCP_CALL
    yield tool_call("get_weather", WEATHER, call_id="call_1", type=call, server_label="weather")
    yield tool_output("call_1", '"sunny"', name="get_weather", type=MessageType.MCP_CALL_OUTPUT)


def text_then_tool() -> Iterator[object]:
    yield "Let me look."
    yield tool_call("get_weather", WEATHER, call_id="call_1")


def thinking() -> Iterator[object]:
    yield reasoning("Let me")
    yield reasoning(" think.")
    yield "Hi"
    yield " there"


def some_data() -> Iterator[object]:
    yield data({"city": "Paris", "degrees": 21})


def messages() -> Iterator[object]:
    yield "First"
    yield " message."
    yield new_message()
    yield "Second."


def picture() -> Iterator[object]:
    yield image("https://example.com/a.png")


def empty() -> Iterator[object]:
    yield from ()


def error() -> Iterator[object]:
    yield "I begin"
    raise ValueError("boom")


def long() -> Iterator[object]:
    yield "I begin"


SCRIPTS: dict[str, Callable[[], Iterator[object]]] = {
    "text": text,
    "whole_text": whole_text,
    "tool": tool,
    "tool_in_chunks": tool,
    "mcp_tool": mcp_tool,
    "text_then_tool": text_then_tool,
    "reasoning": thinking,
    "thinking": thinking,
    "data": some_data,
    "messages": messages,
    "image": picture,
    "empty": empty,
    "error": error,
    "long": long,
}


@app.query
async def query(
    self: AgentApp, msgs: Sequence[Message], request: AgentRequest, context: Context
) -> AsyncIterator[object]:
    script = SCRIPTS[msgs[-1].text]
    for item in script():
        yield item
    if script is long:
        await asyncio.sleep(600)
