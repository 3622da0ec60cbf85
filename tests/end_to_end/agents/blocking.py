"""Agents that block their process; an environment variable selects one."""

import asyncio
import os
import time

from portico.agent import AgentApp

app = AgentApp("blocking")
HOW = os.environ["BLOCKING"]
LONG = 600


@app.init
async def init(self: AgentApp) -> None:
    if HOW == "init":
        time.sleep(LONG)
    if HOW == "init in a thread":
        await asyncio.to_thread(time.sleep, LONG)
    if HOW == "init that is cancelled and goes on":
        while True:
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                pass


@app.query
async def query(self: AgentApp) -> str:
    if HOW == "query":
        time.sleep(LONG)
    if HOW == "query in a thread":
        await asyncio.to_thread(time.sleep, LONG)
    return "done"


@app.shutdown
async def shutdown(self: AgentApp) -> None:
    if HOW == "shutdown":
        time.sleep(LONG)


plain = AgentApp("plain")


@plain.init
def plain_init(self: AgentApp) -> None:
    if HOW == "plain init":
        time.sleep(LONG)


@plain.query
def plain_query(self: AgentApp) -> str:
    return "done"
