"""An agent that uses every traced operation."""

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from portico.agent import AgentApp, Context, Message, tool_call, tool_output, usage

app = AgentApp("traced")


@app.query
async def query(msgs: Sequence[Message], context: Context) -> AsyncGenerator[object, Any]:
    word, _, rest = msgs[-1].text.partition(" ")
    match word:
        case "work":
            await context.memory.add("the user likes tea")
            await context.memory.search("tea")
            yield tool_call("weather", {"city": "Rome"}, call_id="call_1")
            result = await context.sandbox().run_cell("print(6 * 7)")
            yield tool_output("call_1", result.stdout.decode(), name="weather")
            yield usage(input_tokens=3, output_tokens=2)
            yield "done"
        case "headers":
            yield json.dumps(context.trace_headers())
        case "peer":
            answer = await context.a2a(rest).send("headers")
            yield answer.text
        case "fail":
            raise ValueError(rest)
        case "wait":
            yield "."
            await context.input_required("go on?")
            yield "on"
        case _:
            yield rest


if __name__ == "__main__":
    app.run()
