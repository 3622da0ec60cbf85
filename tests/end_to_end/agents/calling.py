"""Agents of two processes that call each other over A2A: each decrements a number and passes it on."""

import os
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from portico.agent import AgentApp, Context, Message

app = AgentApp("calling", description="Counts down, every other number at its peer.")


@app.query
async def query(msgs: Sequence[Message], context: Context) -> AsyncGenerator[Any, Any]:
    number = int(msgs[-1].text)
    yield f"{os.environ['NAME']}{number} "
    if number:
        async for piece in context.a2a(os.environ["PEER_URL"]).stream(str(number - 1)):
            yield piece.text
