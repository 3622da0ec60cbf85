"""Background indexing of messages."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from support.engine import request, text_of

from portico.agent import AgentApp, Context
from portico.core.lifecycle.search_indexing import STEP_MESSAGES, SearchIndexer
from portico.core.stores.ports.stores import NewMessage, Stores


async def test_it_works_until_nothing_is_pending_while_runs_are_started(
    engine_of: Callable[..., Any], stores: Stores
) -> None:
    app = AgentApp(name="echo")

    @app.query
    async def answer(context: Context) -> AsyncIterator[str]:
        yield "penguin"

    engine = await engine_of(app)
    await stores.sessions.create("ada", "s1", "")
    count = 5 * STEP_MESSAGES
    messages = [NewMessage("ada", "s1", f"m{n}", "user", "penguin", b"", 1.0) for n in range(count)]
    await stores.sessions.append("ada", "s1", messages)
    indexing = asyncio.create_task(SearchIndexer(engine, stores.sessions).index_pending())
    for _ in range(10):
        await text_of(engine, engine.admit_now(request("hello")))
    await indexing
    # Fewer messages than one step came since the last step.
    assert await stores.sessions.index_pending() < STEP_MESSAGES
