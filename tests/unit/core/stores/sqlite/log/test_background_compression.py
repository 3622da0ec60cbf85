"""A compressed run needs little disk space, and is read as it was written."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.engine import request

from portico.agent import AgentApp, Message
from portico.core.convert.events import ProtoEncoder
from portico.core.execution.execution import Execution
from portico.core.hosts.local.local_host import LocalHost
from portico.core.integrity.database_check import DatabaseCheck
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import Chunk, Commit, NewMessage, NewSession, RunRecord, Stores
from portico.core.stores.sqlite.log import background_compression, maintenance
from portico.core.stores.sqlite.log.run_log import SqliteRunLog
from portico.v1 import query_pb2

RUN = RunRecord("r1", "agent", "ada", "s1", "completed", 1.0, 1.0, 0, 1, False, None, b"q", b"")
SIZE = 2_000_000


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(maintenance, "REST_FACTOR", 0.0)


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    opened = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    yield opened
    await opened.close()


def words(size: int) -> str:
    """A text of that size, made of a few thousand different words."""
    chance = random.Random(5)
    known = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(4000)]
    text = " ".join(chance.choices(known, k=size // 4))
    return text[:size]


async def settled(stores: Stores, path: Path) -> None:
    """Return when all rows are compressed, and the write-ahead log is cut."""
    assert isinstance(stores.runs, SqliteRunLog)
    async with asyncio.timeout(60):
        while await stores.runs.pack() or path.with_name("portico.db-wal").stat().st_size:
            await asyncio.sleep(0.02)


async def test_a_large_run_takes_about_twice_its_text(stores: Stores, tmp_path: Path) -> None:
    text = words(SIZE)
    app = AgentApp("writer")

    @app.query
    async def query(msgs: Sequence[Message]) -> AsyncIterator[str]:
        for start in range(0, SIZE, 100):
            yield text[start : start + 100]

    engine = RunEngine(LocalHost([app]), stores, ProtoEncoder())
    await engine.start()
    asked = query_pb2.AgentRequest(user_id="ada", session_id="s1")
    execution = engine.admit_now(request("go", agent_name="writer", background=True, request=asked))
    assert isinstance(execution, Execution)
    frames = [frame async for frame in engine.read(execution).frames()]
    run_id = execution.run.run_id
    await engine.stop()
    before = await whole(stores, run_id)
    assert b"".join(frames) == before
    said = await stores.sessions.messages("ada", "s1", None, 10, False)
    while await stores.sessions.index_pending():
        pass
    path = tmp_path / "portico.db"
    await settled(stores, path)
    with closing(sqlite3.connect(path)) as connection:
        sums = [
            connection.execute(f"SELECT sum({columns}) FROM {table}").fetchone()[0]
            for table, columns in (
                ("run_events", "length(data)"),
                ("messages", "length(payload) + length(text)"),
                ("message_words", "length(words) + length(counts)"),
                ("message_search_data", "length(block)"),
            )
        ]
    log, messages, *search = sums
    # Without compression the run log contains the text four times, and the messages contain it twice.
    assert log < 1.2 * SIZE, sums
    assert messages < 0.6 * SIZE, sums
    assert sum(search) < 1.5 * SIZE, sums
    assert await whole(stores, run_id) == before
    last = await stores.runs.last(run_id)
    assert last is not None
    assert before.endswith(last.data)
    assert await stores.sessions.messages("ada", "s1", None, 10, False) == said
    [hit] = await stores.sessions.search("ada", text.split()[0], None, 1)
    assert hit.message == said[1]
    with closing(DatabaseCheck(path)) as audit:
        assert list(audit.broken_runs()) == []
    # The copy in the forked session is found too.
    assert await stores.sessions.fork("ada", "s1", run_id, "s2", always=True)
    assert len(await stores.sessions.search("ada", text.split()[0], "s2", 10)) == 1
    assert [one.payload for one in await stores.sessions.messages("ada", "s2", None, 10, False)] == [
        one.payload for one in said
    ]
    await stores.runs.delete(run_id)
    assert await stores.runs.read(run_id, -1, 1 << 30) == []


async def whole(stores: Stores, run_id: str) -> bytes:
    """Read the log in pieces."""
    parts = []
    after = -1
    while chunks := await stores.runs.read(run_id, after, 100_000):
        assert chunks[0].first == after + 1
        parts += [chunk.data for chunk in chunks]
        after = chunks[-1].last
    return b"".join(parts)


async def test_rows_that_are_there_already_are_packed_once_and_read_meanwhile(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_compression, "STEP_BYTES", 20_000)
    path = tmp_path / "portico.db"
    log = stores.runs
    data = [f"event {number} of a run ".encode() * 400 for number in range(30)]
    payload = b"\x0a" + b"penguin " * 1000
    said = [
        NewMessage("ada", "s1", f"m{number}", "user", "penguin " * 1000, payload, 1.0) for number in range(9)
    ]
    await log.commit(Commit([RUN], [], said, [NewSession("ada", "s1", 1.0)]))
    reading = asyncio.create_task(_read_on(log, data))
    for number, one in enumerate(data):
        await log.commit(Commit([RUN], [Chunk("r1", number, number, one)]))
        await asyncio.sleep(0.01)
    await settled(stores, path)
    await reading
    with closing(sqlite3.connect(path)) as connection:
        lengths = connection.execute("SELECT length(data) FROM run_events").fetchall()
        assert len(lengths) == 30
        assert max(length for (length,) in lengths) < 1000
        [(most,)] = connection.execute("SELECT max(length(payload)) FROM messages").fetchall()
        assert most < 1000
    assert {one.payload for one in await stores.sessions.messages("ada", "s1", None, 10, False)} == {payload}
    assert len(await stores.sessions.search("ada", "penguin", None, 20)) == 9
    # A rewrite of the file keeps the progress, even if it renumbers the rows.
    await log.delete("r1")
    await log.commit(Commit([replace(RUN, run_id="r2")], [Chunk("r2", 0, 0, data[0])]))
    await settled(stores, path)
    await stores.erase()
    await log.commit(Commit([replace(RUN, run_id="r3")], [Chunk("r3", 0, 0, data[1])]))
    await settled(stores, path)
    with closing(sqlite3.connect(path)) as connection:
        lengths = connection.execute("SELECT length(data) FROM run_events").fetchall()
        assert len(lengths) == 2
        assert max(length for (length,) in lengths) < 1000
    assert await whole(stores, "r2") + await whole(stores, "r3") == data[0] + data[1]


async def _read_on(log: object, data: Sequence[bytes]) -> None:
    assert isinstance(log, SqliteRunLog)
    seen = 0
    async with asyncio.timeout(60):
        while seen < len(data):
            chunks = await log.read("r1", -1, 1 << 30)
            seen = len(chunks)
            assert [chunk.data for chunk in chunks] == data[:seen]
            await asyncio.sleep(0.001)
