"""Measures one user's slowest calls, with and without a concurrent deletion of another user's data."""

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks import core
from benchmarks.results import Delete
from portico.client import Client

BATCH = 200
QUIET_SECONDS = 5.0
PAUSE_SECONDS = 0.1  # between calls of one kind: without it, the kinds would delay one another
NOBODY_WAITS = 3600.0  # the timeout of the deletes themselves

Calls = dict[str, list[float]]


def measure(memories: int, messages: int) -> Iterator[Delete]:
    """Measures each delete in a core and a database of its own."""
    for name, count in (("memories", memories), ("a session's messages", messages), ("a user", memories)):
        with tempfile.TemporaryDirectory(prefix="portico-bench-") as folder:
            store = f"sqlite:///{Path(folder)}/portico.db"
            with core.running("--store", store) as running:
                yield asyncio.run(_measure(running.target, name, count))


async def _measure(target: str, name: str, count: int) -> Delete:
    async with Client(target, timeout=NOBODY_WAITS) as client:
        await client.memories.add("likes penguins", user_id="other")
        await client.sessions.create(user_id="big", session_id="s1")
        await client.sessions.create(user_id="other", session_id="s1")
        await client.sessions.append_messages(
            "s1", [f"about penguins {n}" for n in range(50)], user_id="other"
        )
        if name == "a session's messages":
            await _fill(count, lambda texts: client.sessions.append_messages("s1", texts, user_id="big"))
        else:
            await _fill(count, lambda texts: client.memories.add(texts, user_id="big"))
        quiet: Calls = {}
        async with _calls(client, quiet):
            await asyncio.sleep(QUIET_SECONDS)
        during: Calls = {}
        began = time.monotonic()
        async with _calls(client, during):
            if name == "memories":
                await client.memories.delete(user_id="big")
            elif name == "a user":
                await client.identity.forget_user("big")
            else:
                await client.sessions.delete("s1", user_id="big")
        took = time.monotonic() - began
        return Delete(
            what=name, count=count, seconds=took, quiet_ms=_slowest(quiet), during_ms=_slowest(during)
        )


async def _fill(count: int, add: Callable[[list[str]], Awaitable[object]]) -> None:
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        await add(
            [
                f"likes number {start + n} and walks in the park on day {(start + n) % 365}"
                for n in range(size)
            ]
        )


@asynccontextmanager
async def _calls(client: Client, took: Calls) -> AsyncIterator[None]:
    """Makes the other user's calls, one after the other for each kind, until the block ends."""
    numbers = itertools.count()
    kinds: dict[str, Callable[[], Awaitable[object]]] = {
        "run": lambda: client.runs.query("1", user_id="other").text(),
        "add": lambda: client.memories.add(f"number {next(numbers)}", user_id="other"),
        "search memories": lambda: client.memories.search("penguins", user_id="other"),
        "search messages": lambda: client.sessions.search("penguins", user_id="other"),
    }
    ended = asyncio.Event()

    async def repeat(name: str) -> None:
        while not ended.is_set():
            began = time.monotonic()
            await kinds[name]()
            took.setdefault(name, []).append(time.monotonic() - began)
            await asyncio.sleep(PAUSE_SECONDS)

    tasks = [asyncio.create_task(repeat(name)) for name in kinds]
    try:
        yield
    finally:
        ended.set()
        await asyncio.gather(*tasks)


def _slowest(took: Calls) -> dict[str, float]:
    """Returns the slowest call of each kind in milliseconds."""
    return {name: max(calls) * 1e3 for name, calls in took.items()}
