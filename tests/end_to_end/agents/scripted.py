"""Agents that follow the instructions in the request's text, for the end-to-end tests."""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from portico.agent import (
    AgentApp,
    AgentRequest,
    Context,
    Message,
    data,
    new_message,
    reasoning,
    tool_call,
    tool_output,
    usage,
)

apart: Any = os.environ.get("SCRIPTED_ISOLATION", "none")
app = AgentApp("scripted", description="Does what the text says.", isolation=apart)
again = AgentApp("again", on_restart="rerun")
plain = AgentApp("plain", description="A plain generator, in a thread.", isolation=apart)


async def perform(
    msgs: Sequence[Message], request: AgentRequest, context: Context
) -> AsyncGenerator[Any, Any]:
    word, *rest = msgs[-1].text.split() or ["nothing"]
    if word == "count":  # count N [milliseconds between]
        pause = float(rest[1]) / 1000 if len(rest) > 1 else 0
        for number in range(int(rest[0])):
            yield f"{number} "
            if pause:
                await asyncio.sleep(pause)
    elif word == "count-until":  # count-until FILE: until the file exists
        numbers = itertools.count()
        while not Path(rest[0]).exists():
            yield f"{next(numbers)} "
            await asyncio.sleep(0.05)
    elif word == "story":  # story N: events of every kind; the first attempt stops half-way
        yield reasoning("Let me count.")
        yield tool_call("look", {"at": rest[0]}, call_id="call_1")
        yield tool_output("call_1", "seen", name="look")
        yield "I count. "
        yield new_message()
        for number in range(int(rest[0])):
            yield f"{number} "
            if context.attempt == 1 and number * 2 == int(rest[0]):
                await asyncio.sleep(120)
    elif word == "echo":
        yield " ".join(rest)
    elif word == "boom":
        yield "I begin"
        raise ValueError("boom")
    elif word == "forever":
        try:
            while True:
                yield "."
                await asyncio.sleep(0.01)
        finally:
            await asyncio.sleep(0.1)
            Path(rest[0]).write_text("cleaned up", encoding="utf-8")
    elif word == "last-word":
        try:
            yield "working"
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            yield " but I was interrupted"
    elif word == "ask":
        answer = yield context.input_required("Which city?")
        yield f"You said {answer[0].text}."
    elif word == "ask-twice":
        first = await context.input_required("First?")
        second = await context.input_required("Second?")
        yield f"{first[0].text} and {second[0].text}"
    elif word == "reject":
        yield context.reject("not today", code="closed")
    elif word == "everything":
        yield reasoning("Let me ")
        yield reasoning("think.")
        yield tool_call("get_weather", {"city": "Paris"}, call_id="call_1")
        yield tool_output("call_1", "sunny", name="get_weather")
        yield "It is "
        yield "sunny."
        yield new_message()
        yield data({"degrees": 21})
        yield usage(input_tokens=7, output_tokens=5)
    elif word == "history":
        for message in await context.session.messages():
            yield f"{message.role}:{message.text}|"
    elif word == "remember":
        await context.memory.add(" ".join(rest))
        await context.state.save({"words": rest})
        found = await context.memory.search(rest[0])
        state = await context.state.load()
        assert state is not None
        yield f"{found[0].text}; round {state.round_id}"
    elif word == "exit":
        raise SystemExit(3)
    elif word == "die":
        if context.attempt <= int(rest[0]):
            yield "dying"
            await asyncio.sleep(0.3)
            os._exit(9)
        yield f"alive in attempt {context.attempt}"
    elif word == "big":  # big BYTES COUNT
        for _ in range(int(rest[1])):
            yield "x" * int(rest[0])
            await asyncio.sleep(0)


app.query(perform)
again.query(perform)


@plain.query
def plain_query(msgs: Sequence[Message], context: Context) -> Iterator[str]:
    for number in range(int(msgs[-1].text.split()[1])):
        if context.cancelled:
            return
        yield f"{number} "
        time.sleep(0.001)


@app.endpoint("/add")
def add(a: int, b: int = 1) -> dict[str, int]:
    """Adds two numbers."""
    return {"sum": a + b}


@app.endpoint("/countdown", methods=["GET", "POST"])
async def countdown(start: int = 3) -> AsyncIterator[dict[str, int]]:
    """Counts down, one event a number."""
    for number in range(int(start), 0, -1):
        yield {"number": number}


@app.endpoint("/fails")
def fails() -> None:
    raise RuntimeError("no luck")


@app.endpoint("/fails-late")
async def fails_late() -> AsyncIterator[int]:
    yield 1
    raise RuntimeError("no luck")
