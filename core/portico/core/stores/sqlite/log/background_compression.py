"""Compresses stored rows in the background.

Compressing a megabyte takes about 50 ms, too long for a commit. So rows are written
uncompressed, and a job processes each row once, in insertion order: it reads some,
compresses them outside of a transaction, and writes those that became smaller in a
short transaction.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from portico.core.stores.sql.compression import compress
from portico.core.stores.sql.epoch_fence import EpochFence

STEP_BYTES = 1024 * 1024
STEP_ROWS = 200


@dataclass(frozen=True, slots=True)
class CompressionJob:
    """A column to compress, of a table with rowids. `key` identifies a row, `name` the job's progress."""

    name: str
    table: str
    column: str
    key: tuple[str, ...]


JOBS = (
    CompressionJob("packed events", "run_events", "data", ("run_id", "first")),
    CompressionJob("packed messages", "messages", "payload", ("position",)),
)


@dataclass(frozen=True, slots=True)
class CompressionStep:
    """The result of one step, over the rowids after `since` up to `to`."""

    job: CompressionJob
    since: int
    to: int
    smaller: Sequence[tuple[object, ...]]  # the new value, the key, and the length of the old value


def find_step(connection: sqlite3.Connection) -> CompressionStep | None:
    """Read and compress the next unprocessed rows; None if there are none."""
    for job in JOBS:
        found = _look(connection, job)
        if found is not None:
            return found
    return None


def _look(connection: sqlite3.Connection, job: CompressionJob) -> CompressionStep | None:
    rows = connection.execute("SELECT position FROM search_progress WHERE index_name = ?", (job.name,))
    since = to = max((position for (position,) in rows), default=0)
    smaller = []
    size = 0
    cursor = connection.execute(
        f"SELECT rowid, {job.column}, {', '.join(job.key)} FROM {job.table}"  # noqa: S608 - names are ours
        " WHERE rowid > ? ORDER BY rowid LIMIT ?",
        (since, STEP_ROWS),
    )
    for number, value, *key in cursor:
        to = number
        less = compress(value)
        if less is not None:
            smaller.append((less, *key, len(value)))
        size += len(value)
        if size >= STEP_BYTES:
            break
    cursor.close()
    return None if to == since else CompressionStep(job, since, to, smaller)


def store_step(connection: sqlite3.Connection, step: CompressionStep, owner: EpochFence) -> None:
    """Write the step's rows, in one transaction. Rows deleted since stay deleted. Raises FencedOut."""
    job = step.job
    key = " AND ".join(f"{name} = ?" for name in job.key)
    change = f"UPDATE {job.table} SET {job.column} = ? WHERE {key} AND length({job.column}) = ?"  # noqa: S608
    connection.execute("BEGIN IMMEDIATE")
    try:
        owner.check(connection)
        connection.executemany(change, step.smaller)
        connection.execute("INSERT OR IGNORE INTO search_progress VALUES (?, 0)", (job.name,))
        connection.execute(
            "UPDATE search_progress SET position = ? WHERE index_name = ? AND position = ?",
            (step.to, job.name, step.since),
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def reset_position_after_deletion(connection: sqlite3.Connection) -> None:
    """Move the progress back after a delete of events, since SQLite reuses the rowids of the last rows."""
    connection.execute(
        "UPDATE search_progress SET position ="
        " min(position, coalesce((SELECT max(rowid) FROM run_events), 0)) WHERE index_name = ?",
        (JOBS[0].name,),
    )


def rewrite(connection: sqlite3.Connection) -> None:
    """Rewrite the file with VACUUM, and adjust the progress, since rowids may be renumbered from 1."""
    job = JOBS[0]
    behind = (
        "SELECT count(*) FROM run_events WHERE rowid >"
        " coalesce((SELECT position FROM search_progress WHERE index_name = ?), 0)"
    )
    ((left,),) = connection.execute(behind, (job.name,)).fetchall()
    connection.execute("VACUUM").close()
    connection.execute(
        "UPDATE search_progress SET position ="
        " max(0, coalesce((SELECT max(rowid) FROM run_events), 0) - ?) WHERE index_name = ?",
        (left, job.name),
    )
