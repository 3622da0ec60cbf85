"""A search in SQLite waits only for the indexing of its own user's messages."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import NewMessage, Stores
from portico.core.stores.sqlite import message_indexing
from portico.core.stores.sqlite.log.run_log import SqliteRunLog


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    opened = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    yield opened
    await opened.close()


async def tell(stores: Stores, user_id: str, *texts: str) -> None:
    await stores.sessions.create(user_id, "s1", "")
    messages = [NewMessage(user_id, "s1", text[:40], "user", text, b"payload", 1.0) for text in texts]
    await stores.sessions.append(user_id, "s1", messages)


async def found(stores: Stores, user_id: str) -> list[str]:
    hits = await stores.sessions.search(user_id, "penguin", None, 1000)
    return sorted(hit.message.message_id for hit in hits)


async def test_who_has_nothing_pending_waits_for_nobody_who_writes(stores: Stores) -> None:
    await tell(stores, "ada", "penguin")
    assert await found(stores, "ada") == ["penguin"]
    await tell(stores, "bob", *(f"penguin {number}" for number in range(300)))
    assert isinstance(stores.runs, SqliteRunLog)
    async with stores.runs._turn:
        # A pass that has begun can't continue in the meantime.
        background = asyncio.create_task(stores.sessions.index_pending())
        async with asyncio.timeout(30):
            assert await found(stores, "ada") == ["penguin"]
            assert await found(stores, "nobody") == []
    assert await background == 301


@pytest.mark.parametrize("few", [0, 1000])
async def test_a_search_finds_what_is_pending_among_few_and_among_many(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(message_indexing, "IMMEDIATE_INDEX_LIMIT", few)
    await tell(stores, "ada", "penguin 1", "penguin 2")
    assert await stores.sessions.index_pending(1) == 1
    await tell(stores, "bob", *(f"penguin {number}" for number in range(70)))
    assert await found(stores, "ada") == ["penguin 1", "penguin 2"]
    assert len(await found(stores, "bob")) == 70
    assert await found(stores, "nobody") == []


async def test_a_step_has_a_bounded_size(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_indexing, "STEP_CHARACTERS", 100)
    await tell(stores, "ada", *(f"{number:04} penguin " * 4 for number in range(20)))
    await tell(stores, "bob", "penguin " * 100, "penguin", "")
    steps: list[int] = []
    add = message_indexing.MessageIndexer._write

    async def write(self: object, rows: message_indexing.Rows, progress: object = None) -> None:
        steps.append(sum(len(row.text) for row in rows))
        await add(self, rows, progress)  # type: ignore[arg-type]

    monkeypatch.setattr(message_indexing.MessageIndexer, "_write", write)
    assert len(await found(stores, "ada")) == 20
    assert max(steps) <= 156
    assert len(steps) >= 10
    assert len(await found(stores, "bob")) == 2
    assert await stores.sessions.index_pending() == 23


async def test_progress_outlives_the_process(stores: Stores, tmp_path: Path) -> None:
    await tell(stores, "bob", *(f"penguin {number}" for number in range(120)))
    await tell(stores, "ada", "penguin")
    assert await stores.sessions.index_pending(60) == 60
    assert await found(stores, "ada") == ["penguin"]
    await stores.close()
    again = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    try:
        assert await again.sessions.index_pending() == 61
        assert await found(again, "ada") == ["penguin"]
        assert len(await found(again, "bob")) == 120
    finally:
        await again.close()
