"""The statements that write the run log, few per commit.

Every call into SQLite releases the interpreter's lock (GIL) and must get it back
from a busy event loop. So a commit executes a few statements with many rows each,
instead of one statement per row.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import chain
from typing import Any

from portico.core.errors import FencedOut
from portico.core.stores.ports.stores import Chunk, Commit, NewMessage, RunRecord
from portico.core.stores.sql.compression import (
    LARGE_BYTES,
    EventRow,
    compress_with_references,
    encode_plain,
    encode_text,
)
from portico.core.stores.sql.epoch_fence import OWNED_CONDITION, EpochFence
from portico.core.stores.sqlite.log.unflushed_chunks import FlushPlan, UnflushedChunks
from portico.model.run_status import UNFINISHED_STATUSES

MAX_VARIABLES = 32766  # SQLite's limit for one statement
PAGE_BYTES = 4096

RUN_COLUMNS = tuple(field.name for field in fields(RunRecord))
IS_UNFINISHED = "status IN ({})".format(", ".join(f"'{status}'" for status in sorted(UNFINISHED_STATUSES)))

# The SQL before and after the rows, and the number of values per row.
_Insert = tuple[str, str, int]

_RUNS: _Insert = (
    f"INSERT INTO runs ({', '.join(RUN_COLUMNS)}) VALUES ",  # noqa: S608 - column names are ours
    " ON CONFLICT (run_id) DO UPDATE SET status = excluded.status, updated_at = excluded.updated_at,"
    " last_sequence_number = excluded.last_sequence_number, attempt = excluded.attempt,"
    " summary = excluded.summary, answers = excluded.answers",
    len(RUN_COLUMNS),
)
_CHUNKS: _Insert = (
    "INSERT INTO run_events (run_id, first, last, data) VALUES ",
    " ON CONFLICT (run_id, first) DO NOTHING",
    4,
)
_SESSIONS: _Insert = (
    "INSERT INTO sessions (user_id, session_id, created_at, updated_at, metadata) VALUES ",
    " ON CONFLICT (user_id, session_id) DO NOTHING",
    5,
)
# SQLite names the columns of VALUES column1, column2 and so on.
_USED_SESSIONS: _Insert = (
    "UPDATE sessions SET updated_at = max(updated_at, used.column3) FROM (VALUES ",
    ") AS used WHERE user_id = used.column1 AND session_id = used.column2",
    3,
)
_MESSAGES: _Insert = (
    "INSERT INTO messages (user_id, session_id, message_id, role, text, payload, created_at, run_id,"
    " type) SELECT * FROM (VALUES ",
    ") AS new WHERE EXISTS (SELECT 1 FROM sessions"
    " WHERE sessions.user_id = new.column1 AND sessions.session_id = new.column2)"
    " ON CONFLICT (user_id, session_id, message_id) DO NOTHING",
    9,
)

_LAST = "SELECT max(last) FROM run_events WHERE run_id = ?"
_SEGMENT = "INSERT INTO log_segments (segment_id, data) VALUES (?, ?)"
_OWNED_SEGMENT = f"INSERT INTO log_segments (segment_id, data) SELECT ?, ? WHERE EXISTS ({OWNED_CONDITION})"

# Deletes at most 512 of the segments that a long tail has kept, so that no commit takes long. That is more
# than the 256 written until the next execution.
DELETE_FLUSHED_SEGMENTS = (
    "DELETE FROM log_segments WHERE segment_id < min(?, (SELECT min(segment_id) + 512 FROM log_segments))"
)

_Statement = tuple[str, list[Any]]


def write(connection: sqlite3.Connection, commit: Commit, tails: UnflushedChunks, owner: EpochFence) -> int:
    """Write a commit in one transaction; return about how many bytes it added to the write-ahead log.

    Raises FencedOut.
    """
    plan = tails.plan(commit, _lasts(connection, tails.runs_to_look_up(commit)))
    statements = list(_statements(commit, plan))
    if plan.segment and not plan.segment_id % 256:
        statements.append((DELETE_FLUSHED_SEGMENTS, [tails.first_needed()]))
    if len(statements) == 1 and plan.segment:
        # A single statement is a transaction of its own, with a fifth of the calls. Most commits write only a
        # segment.
        values = (plan.segment_id, plan.segment, *owner.key)
        if connection.execute(_OWNED_SEGMENT, values).rowcount != 1:
            raise FencedOut
    elif statements:
        _transact(connection, statements, owner)
    tails.mark_written(plan)
    return _wal_bytes(commit, plan)


def flush(connection: sqlite3.Connection, tails: UnflushedChunks, owner: EpochFence) -> None:
    """Write all tails as rows, and delete all segments. Raises FencedOut."""
    rows = _stored(tails.flush_all())
    _transact(connection, [*_rows(_CHUNKS, rows), ("DELETE FROM log_segments", [])], owner)
    tails.mark_all_flushed()


def load_unflushed(connection: sqlite3.Connection) -> UnflushedChunks:
    """Restore the tails from the segments."""
    tails = UnflushedChunks()
    segments = connection.execute("SELECT segment_id, data FROM log_segments ORDER BY segment_id").fetchall()
    unfinished = connection.execute(f"SELECT run_id FROM runs WHERE {IS_UNFINISHED}")  # noqa: S608
    lasts = dict.fromkeys((run_id for (run_id,) in unfinished), -1)
    tails.restore(segments, lasts | _lasts(connection, lasts))
    return tails


def _lasts(connection: sqlite3.Connection, run_ids: Iterable[str]) -> dict[str, int]:
    """Return the last event in rows of each run that has any."""
    found = {}
    for run_id in run_ids:
        (last,) = connection.execute(_LAST, (run_id,)).fetchone()
        if last is not None:
            found[run_id] = last
    return found


def _transact(connection: sqlite3.Connection, statements: Sequence[_Statement], owner: EpochFence) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        owner.check(connection)
        for statement in statements:
            connection.execute(*statement)
        connection.execute("COMMIT")
    except BaseException:
        # After some errors SQLite has rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _wal_bytes(commit: Commit, plan: FlushPlan) -> int:
    """Estimate how many bytes the commit adds to the write-ahead log, which consists of whole pages."""
    # Ids are random, so each row changes a page of its own in nearly every index.
    pages = 6 * len(commit.runs) + 2 * len(plan.rows) + 4 * len(commit.messages) + 2 * len(commit.sessions)
    size = pages * PAGE_BYTES + sum([len(row.data) for row in plan.rows]) + len(plan.segment)
    # The text of a message is about as long as its payload.
    return (
        size
        + sum([len(run.request) for run in commit.runs])
        + sum([2 * len(m.payload) for m in commit.messages])
    )


def _statements(commit: Commit, plan: FlushPlan) -> Iterator[_Statement]:
    if commit.runs:
        yield from _rows(_RUNS, [value for run in commit.runs for value in _run(run)])
    if plan.rows:
        yield from _rows(_CHUNKS, _stored(plan.rows))
    if plan.segment:
        yield _SEGMENT, [plan.segment_id, plan.segment]
    if commit.sessions:
        rows = ((*session, session.created_at, "") for session in commit.sessions)
        yield from _rows(_SESSIONS, list(chain.from_iterable(rows)))
    if commit.messages:
        yield from _rows(_USED_SESSIONS, _used(commit.messages))
        yield from _rows(_MESSAGES, [value for message in commit.messages for value in _message(message)])


def _rows(insert: _Insert, values: list[Any]) -> Iterator[_Statement]:
    width = insert[2]
    most = MAX_VARIABLES // width * width
    for start in range(0, len(values), most):
        part = values[start : start + most] if len(values) > most else values
        yield _sql(insert, len(part) // width), part


@lru_cache(maxsize=256)
def _sql(insert: _Insert, rows: int) -> str:
    before, after, width = insert
    row = f"({','.join('?' * width)})"
    return f"{before}{','.join([row] * rows)}{after}"


def _stored(rows: Sequence[Chunk]) -> list[Any]:
    """Return the values to store for the rows.

    The events that end a message and its run repeat the message's content. They are stored with
    references to it.
    """
    values: list[Any] = []
    large: dict[str, list[EventRow]] = {}
    for run_id, first, last, data in rows:
        if len(data) < LARGE_BYTES:
            values += (run_id, first, last, encode_plain(data))
            continue
        earlier = large.setdefault(run_id, [])
        less = compress_with_references(data, earlier)
        if less is None:
            earlier.append((first, data))
        values += (run_id, first, last, encode_plain(data) if less is None else less)
    return values


def _run(run: RunRecord) -> tuple[Any, ...]:
    return (
        run.run_id,
        run.agent_name,
        run.user_id,
        run.session_id,
        run.status,
        run.created_at,
        run.updated_at,
        run.last_sequence_number,
        run.attempt,
        run.background,
        run.idempotency_key,
        run.request,
        run.summary,
        run.answers,
        run.ephemeral,
    )


def _message(message: NewMessage) -> tuple[Any, ...]:
    return (
        message.user_id,
        message.session_id,
        message.message_id,
        message.role,
        encode_text(message.text, message.payload),
        encode_plain(message.payload),
        message.created_at,
        message.run_id,
        message.type,
    )


def _used(messages: Sequence[NewMessage]) -> list[Any]:
    """Return the values of a row per session: the time of its newest message."""
    used: dict[tuple[str, str], float] = {}
    for message in messages:
        key = message.user_id, message.session_id
        used[key] = max(used.get(key, message.created_at), message.created_at)
    return [value for key, time in used.items() for value in (*key, time)]
