"""An agent for the tests of the OpenAI gateway with client libraries."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

from portico.agent import (
    AgentApp,
    Context,
    DataContent,
    Message,
    data,
    function_call,
    new_message,
    reasoning,
    tool_call,
    tool_output,
    usage,
)

app = AgentApp("scripted", description="Does what the text says.")
other = AgentApp("other")


@app.query
async def query(msgs: Sequence[Message], context: Context) -> AsyncIterator[object]:
    results = [part for part in msgs[-1].content if isinstance(part, DataContent)]
    word, _, rest = msgs[-1].text.partition(" ")
    if results:
        yield f"The tool said {results[0].data['output']}."
    elif word == "rich":
        yield reasoning("Let me think.")
        yield tool_call("get_weather", {"city": "Paris"}, call_id="own_1")
        yield tool_output("own_1", "sunny", name="get_weather")
        yield "It is "
        yield "sunny."
        yield new_message()
        yield data({"degrees": 21})
        yield usage(input_tokens=7, output_tokens=5)
    elif word == "echo":
        yield rest
    elif word == "history":
        yield json.dumps([message.text for message in await context.session.messages()])
    elif word == "steps":
        for number in range(int(rest)):
            yield f"{number} "
            await asyncio.sleep(0.01)
    elif word == "listen":
        yield "listening"
        while not (told := await context.new_input()):
            await asyncio.sleep(0.01)
        yield f"heard {told[0].text}"
    elif word == "call":
        yield function_call(rest, {"city": "Paris"})
    elif word == "talk-and-call":
        yield "One moment."
        yield function_call("get_weather", {"city": "Paris"})
    elif word == "boom":
        yield "I begin"
        raise ValueError("boom")
    elif word == "forever":
        while True:
            yield "."
            await asyncio.sleep(0.01)


@other.query
async def other_query() -> str:
    return "the other"
