"""The audit reports each kind of broken log, and nothing for an intact one."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from portico.core.integrity.database_check import DatabaseCheck
from portico.core.stores.open_stores import open_stores
from portico.v1 import events_pb2, query_pb2

RUNNING = events_pb2.RUN_STATUS_IN_PROGRESS
DONE = events_pb2.RUN_STATUS_COMPLETED


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    stores = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    await stores.close()
    return tmp_path / "portico.db"


def events(first: int, *statuses: int) -> tuple[int, int, bytes]:
    """A row of events with these statuses."""
    response = query_pb2.QueryResponse()
    for number, status in enumerate(statuses, first):
        response.events.add(sequence_number=number, response=events_pb2.Response(status=status))  # type: ignore[arg-type]
    return first, first + len(statuses) - 1, response.SerializeToString()


def add(database: Path, status: str, last: int, *rows: tuple[int, int, bytes]) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(
            "INSERT INTO runs (run_id, agent_name, user_id, session_id, status, created_at, updated_at,"
            " last_sequence_number, attempt, background, request, summary, answers, ephemeral)"
            " VALUES ('resp_1', 'a', 'u', 's', ?, 0, 0, ?, 1, 0, '', '', '', '')",
            (status, last),
        )
        connection.executemany("INSERT INTO run_events VALUES ('resp_1', ?, ?, ?)", rows)
    connection.close()


def found(database: Path) -> list[str]:
    audit = DatabaseCheck(database)
    try:
        return [*audit.file_problems(), *audit.broken_runs(), *audit.broken_segments()]
    finally:
        audit.close()


def test_whole_logs_are_not_told(database: Path) -> None:
    add(database, "completed", 3, events(0, RUNNING, RUNNING), events(2, RUNNING, DONE))
    assert found(database) == []


def test_what_has_not_ended_is_not_judged(database: Path) -> None:
    add(database, "in_progress", 7, events(0, RUNNING))
    assert found(database) == []
    audit = DatabaseCheck(database)
    assert audit.unfinished() == 1
    audit.close()


@pytest.mark.parametrize(
    ("last", "rows", "problem"),
    [
        (2, [events(0, RUNNING), events(2, DONE)], "event 1 is missing"),
        (1, [events(0, RUNNING, RUNNING), events(1, DONE)], "event 2 is stored twice"),
        (2, [events(0, RUNNING, DONE), events(2, RUNNING)], "event 2 comes after the terminal one"),
        (2, [events(0, RUNNING, DONE, DONE)], "2 terminal events"),
        (1, [events(0, RUNNING, RUNNING)], "0 terminal events"),
        (5, [events(0, RUNNING, DONE)], "its log ends at event 1, its record says 5"),
        (1, [(0, 1, b"\xff\xff")], "events 0 to 1 can't be read"),
        (1, [(0, 1, events(4, RUNNING, DONE)[2])], "events 0 to 1 are numbered [4, 5]"),
    ],
)
def test_each_kind_of_broken_log_is_told(
    database: Path, last: int, rows: list[tuple[int, int, bytes]], problem: str
) -> None:
    add(database, "completed", last, *rows)
    (told,) = found(database)
    assert told.startswith(f"resp_1 (completed): {problem}")


def test_a_broken_segment_is_told(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO log_segments VALUES (7, ?)", (b"\x01\x02\x03",))
    connection.close()
    assert found(database) == ["segment 7 of the log can't be read"]


def revisions() -> Iterator[tuple[str, str]]:
    yield "DROP TABLE alembic_version", "none"
    yield "UPDATE alembic_version SET version_num = '9999'", "newer"


def test_the_revision_is_told(database: Path) -> None:
    audit = DatabaseCheck(database)
    assert audit.schema_revision() == "newest"
    audit.close()
    for statement, told in reversed([*revisions()]):
        with sqlite3.connect(database) as connection:
            connection.execute(statement)
        connection.close()
        audit = DatabaseCheck(database)
        assert audit.schema_revision() == told
        audit.close()
