"""Steps of a delete in SQLite read and delete a bounded number of rows."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from portico.core.stores.deletion_steps import STEP_ROWS
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import Commit, MemoryRecord, NewMessage, RunRecord, Stores
from portico.core.stores.sql.memories import SqlMemoryStore
from portico.core.stores.sqlite.log import run_deletion, run_log

RUN = RunRecord("r1", "agent", "ada", "s1", "completed", 1.0, 1.0, 0, 1, False, None, b"q", b"")


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    opened = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    await opened.sessions.create("ada", "s1", "")
    await opened.sessions.append(
        "ada", "s1", [NewMessage("ada", "s1", f"m{n}", "user", "penguin", b"p", 1.0) for n in range(300)]
    )
    await opened.sessions.index_pending()
    await opened.memories.add([MemoryRecord(f"m{n}", "ada", "s1", "penguin", 1.0) for n in range(300)])
    await opened.runs.commit(Commit([RUN]))
    for number in range(120):
        await opened.states.save("ada", "s1", number, "{}", None)
        await opened.results.keep("r1", str(number), b"result")
    yield opened
    await opened.close()


DELETES: dict[str, Callable[[Stores], Awaitable[object]]] = {
    "memories of a user": lambda s: s.memories.delete("ada", None, None),
    "memories of a session": lambda s: s.memories.delete("ada", "s1", None),
    "memories that are too old": lambda s: s.memories.expire(5.0, 100),
    "memories that have expired": lambda s: s.memories.remove_expired(5.0, 100),
    "session": lambda s: s.sessions.delete("ada", "s1"),
    "states": lambda s: s.states.delete("ada", None, None),
    "states that are too old": lambda s: s.states.expire(5.0, 100),
    "results": lambda s: s.results.delete_all(["r1"]),
    "push configs": lambda s: s.pushes.delete_all(["r1"]),
}


@pytest.mark.parametrize("what", DELETES)
async def test_a_step_finds_its_rows_through_an_index_and_sorts_none(
    stores: Stores, tmp_path: Path, what: str
) -> None:
    assert isinstance(stores.memories, SqlMemoryStore)
    seen: dict[str, Any] = {}

    def executed(_c: object, _u: object, statement: str, values: Any, _x: object, many: bool) -> None:
        seen[statement] = values[0] if many else values

    engine = stores.memories._database._reading.sync_engine
    event.listen(engine, "before_cursor_execute", executed)
    await DELETES[what](stores)
    event.remove(engine, "before_cursor_execute", executed)
    assert seen
    with closing(sqlite3.connect(tmp_path / "portico.db")) as connection:
        for statement, values in seen.items():
            if not statement.startswith("BEGIN"):
                plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
                assert not [step for step in plan if "TEMP B-TREE" in step], statement
                scans = [step for step in plan if step.startswith("SCAN") and "VIRTUAL" not in step]
                assert all("CONSTANT" in step or "subquery" in step.lower() for step in scans), (
                    scans,
                    statement,
                )


async def test_small_events_of_a_long_run_go_in_steps(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "portico.db")) as connection, connection:
        rows = [(number, number) for number in range(5 * STEP_ROWS)]
        connection.executemany("INSERT INTO run_events VALUES ('r1', ?, ?, x'00')", rows)
    steps = 0
    remove = run_deletion.delete_batch

    def counted(*args: Any) -> Any:
        nonlocal steps
        steps += 1
        return remove(*args)

    monkeypatch.setattr(run_log, "delete_batch", counted)
    await stores.runs.delete("r1")
    assert steps >= 5
    assert await stores.runs.read("r1", -1, 1 << 20) == []


async def test_segments_that_nobody_needs_go_some_at_a_time(stores: Stores, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "portico.db")) as connection, connection:
        # Like segments that a long tail has kept until its run ended.
        rows = [(-number,) for number in range(2000)]
        connection.executemany("INSERT INTO log_segments VALUES (?, x'')", rows)

        def count() -> int:
            return int(connection.execute("SELECT count(*) FROM log_segments").fetchone()[0])

        before = count()
        connection.commit()
        await stores.runs.delete("r1")
        assert before - 600 < count() < before
