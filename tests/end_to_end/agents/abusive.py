"""Agents in worker processes that misbehave as the text says; and one agent in the core."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from portico.agent import AgentApp, Context, Message, Workers

MIB = 1024 * 1024

here = AgentApp("here")
bad = AgentApp("bad", isolation=Workers(stop_seconds=0.5))
beside = AgentApp("beside", isolation="process", on_restart="rerun")
bounded = AgentApp("bounded", isolation=Workers(memory_bytes=300 * MIB))
recycled = AgentApp("recycled", isolation=Workers(max_runs=2))
deaf = AgentApp("deaf", isolation=Workers(stop_seconds=0.5))


async def perform(msgs: Sequence[Message], context: Context) -> AsyncGenerator[Any, Any]:
    word, *rest = msgs[-1].text.split()
    if word == "pid":
        yield str(os.getpid())
    elif word == "count":  # count N
        for number in range(int(rest[0])):
            yield f"{number} "
            await asyncio.sleep(0.01)
    elif word == "stand":
        yield "here I stand"
        await asyncio.sleep(600)
    elif word == "block":
        yield "not for long"
        await asyncio.sleep(0.1)
        while True:
            pass
    elif word == "exit":
        yield "before"
        await asyncio.sleep(0.1)
        os._exit(int(rest[0]))
    elif word == "segfault":
        yield "before"
        await asyncio.sleep(0.1)
        ctypes.string_at(0)
    elif word == "die":
        yield "before"
        await asyncio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "leak":
        kept = []
        while True:
            kept.append(bytearray(b"x" * 8 * MIB))
            yield "."
            await asyncio.sleep(0.05)
    elif word == "fork-and-return":
        if os.fork() == 0:
            yield "I am the copy"
            await asyncio.sleep(0.01)
            yield "and go on"
        else:
            await asyncio.sleep(0.3)
            yield "I am the original"
    elif word == "leave":  # processes, some of which try to hide from their parent
        children = [
            subprocess.Popen(["sleep", "600"]).pid,
            subprocess.Popen(["sleep", "600"], start_new_session=True).pid,
        ]
        if (child := os.fork()) == 0:
            os.setsid()
            time.sleep(600)
            os._exit(0)
        yield " ".join(map(str, [*children, child]))
        await asyncio.sleep(0.1)
        os._exit(0)
    elif word == "close-all":
        yield "before"
        await asyncio.sleep(0.1)
        os.closerange(3, 256)
        await asyncio.sleep(600)
    elif word == "garbage":
        yield "before"
        await asyncio.sleep(0.1)
        for number in range(3, 64):
            try:
                if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                    os.write(number, b"\xff" * 64)
            except OSError:
                pass
        await asyncio.sleep(600)
    elif word == "flood":
        while True:
            yield "x" * 1000
    elif word == "print":
        print("words on stdout", flush=True)
        print("words on stderr", file=sys.stderr)
        yield "printed"


@deaf.query
def never_stops(msgs: Sequence[Message]) -> str:
    """A plain function that never checks for cancellation."""
    if msgs[-1].text == "pid":
        return str(os.getpid())
    time.sleep(600)
    return "at last"


for app in (here, bad, beside, bounded, recycled):
    app.query(perform)


@bad.endpoint("/exit")
def leave() -> None:
    os._exit(4)


@bad.endpoint("/add")
def add(a: int, b: int) -> dict[str, int]:
    return {"sum": a + b}
