"""The benchmarks' agent for Portico; peer/app.py has the same agent for the peer."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from portico.agent import AgentApp, AgentRequest, Context, Message

app = AgentApp("tokens", "Says as many tokens as it is asked for.")


@app.query
async def query(
    self: AgentApp, msgs: Sequence[Message], request: AgentRequest, context: Context
) -> AsyncIterator[str]:
    """Yields tokens: "200" without pauses, "paced 200" one per 20 ms, "stamped 200" paced and with the time
    of each.
    """
    *pace, count = msgs[-1].text.split()
    for number in range(int(count)):
        if pace:
            await asyncio.sleep(0.02)
        yield f"{time.monotonic_ns()} " if pace == ["stamped"] else f"tok{number} "
