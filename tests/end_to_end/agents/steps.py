"""Agents whose steps have a side effect: a line in the file that STEPS_FILE names."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from portico.agent import AgentApp, Context

STEPS = 25
here = AgentApp("here", on_restart="rerun")
apart = AgentApp("apart", on_restart="rerun", isolation="process")


def note(*words: object) -> None:
    with Path(os.environ["STEPS_FILE"]).open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


@here.query
@apart.query
async def work(context: Context) -> AsyncIterator[str]:
    for step in range(STEPS):

        async def on_loop(idempotency_key: str, step: int = step) -> int:
            note("called", context.run_id, step, idempotency_key)
            return step * 2

        def in_thread(idempotency_key: str, step: int = step) -> int:
            note("called", context.run_id, step, idempotency_key)
            return step * 2

        result = await context.once(f"step {step}", in_thread if step % 2 else on_loop)
        note("kept", context.run_id, step)
        yield f"{result} "
        await asyncio.sleep(0.01)
