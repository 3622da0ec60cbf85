"""Deletes runs from a SQLite run log, in transactions of a bounded size.

The first transaction deletes the run's record, so the run can't be found any more. If
it is too large for one transaction, it is also in `deleted_runs` from the first to the
last one. Its events are deleted from the end, so a reader in the middle of them comes
to their end, and gets the error that the run does not exist.
"""

import sqlite3
from collections.abc import Sequence

from portico.core.stores.deletion_steps import ROW_BYTES, STEP_BYTES, STEP_ROWS, next_batch
from portico.core.stores.sql.epoch_fence import EpochFence
from portico.core.stores.sqlite.log.background_compression import reset_position_after_deletion
from portico.core.stores.sqlite.log.log_writer import DELETE_FLUSHED_SEGMENTS
from portico.core.stores.sqlite.log.unflushed_chunks import UnflushedChunks


def delete_batch(
    connection: sqlite3.Connection, tails: UnflushedChunks, run_ids: Sequence[str], owner: EpochFence
) -> tuple[int, Sequence[str]]:
    """Delete some of the runs, in one transaction.

    Args:
        connection: The writing connection.
        tails: The tails of unfinished runs.
        run_ids: The runs to delete.
        owner: The ownership to check.

    Returns:
        How many records of runs were deleted, and the runs that are not yet deleted completely.

    Raises:
        FencedOut: Another core owns the database.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        owner.check(connection)
        found, left = _remove(connection, tails, run_ids)
        # The runs' content is also deleted with those segments that no other run needs.
        connection.execute(DELETE_FLUSHED_SEGMENTS, (tails.first_needed(),))
        reset_position_after_deletion(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return found, left


def partially_deleted_runs(connection: sqlite3.Connection) -> Sequence[str]:
    """Return the runs with events left by an interrupted delete."""
    return [run_id for (run_id,) in connection.execute("SELECT run_id FROM deleted_runs").fetchall()]


def _remove(
    connection: sqlite3.Connection, tails: UnflushedChunks, run_ids: Sequence[str]
) -> tuple[int, Sequence[str]]:
    found = 0
    room = STEP_BYTES
    for index, run_id in enumerate(run_ids):
        if room <= 0:
            return found, run_ids[index:]
        found += connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,)).rowcount
        tails.forget(run_id)
        removed, whole = _remove_events(connection, run_id, room)
        if not whole:
            connection.execute("INSERT OR IGNORE INTO deleted_runs VALUES (?)", (run_id,))
            return found, run_ids[index:]
        connection.execute("DELETE FROM deleted_runs WHERE run_id = ?", (run_id,))
        room -= removed + ROW_BYTES
    return found, ()


def _remove_events(connection: sqlite3.Connection, run_id: str, room: int) -> tuple[int, bool]:
    """Delete events of a run; return the size of the deleted ones, and whether all are deleted."""
    rows = connection.execute(
        "SELECT first, length(data) FROM run_events WHERE run_id = ? ORDER BY first DESC LIMIT ?",
        (run_id, STEP_ROWS + 1),
    ).fetchall()
    firsts = next_batch(rows[:STEP_ROWS], room)
    if len(firsts) == len(rows):
        connection.execute("DELETE FROM run_events WHERE run_id = ?", (run_id,))
    else:
        connection.execute("DELETE FROM run_events WHERE run_id = ? AND first >= ?", (run_id, firsts[-1]))
    size = sum(size + ROW_BYTES for _, size in rows[: len(firsts)])
    return size, len(firsts) == len(rows)
