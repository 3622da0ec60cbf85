"""An agent without a framework: a loop over Chat Completions that yields the chunks unchanged."""

import json
from collections.abc import AsyncGenerator
from typing import Any

from common import MODEL_URL, weather
from openai import AsyncOpenAI

from portico.agent import AgentApp, Context, tool_output
from portico.frameworks.common.history import earlier_messages
from portico.frameworks.openai import to_chat

openai = AgentApp("openai", "looks at the weather with OpenAI's SDK alone")
CLIENT = AsyncOpenAI(base_url=MODEL_URL, api_key="none", max_retries=0)


@openai.query
async def query(msgs: Any, context: Context) -> AsyncGenerator[Any, None]:
    messages = to_chat([*await earlier_messages(context), *msgs])
    while True:
        calls: dict[int, dict[str, str]] = {}
        async with await CLIENT.chat.completions.create(
            model="scripted", messages=messages, stream=True, stream_options={"include_usage": True}
        ) as stream:
            async for chunk in stream:
                yield chunk
                for piece in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
                    call = calls.setdefault(piece.index, {"id": "", "name": "", "arguments": ""})
                    call["id"] += piece.id or ""
                    call["name"] += piece.function.name or ""
                    call["arguments"] += piece.function.arguments or ""
        if not calls:
            return
        functions = [
            {"id": c["id"], "type": "function", "function": {"name": c["name"], "arguments": c["arguments"]}}
            for c in calls.values()
        ]
        messages.append({"role": "assistant", "content": None, "tool_calls": functions})
        for call in calls.values():
            output = weather(**json.loads(call["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": output})
            yield tool_output(call["id"], output, name=call["name"])
