"""Deletes runs from a SQLite log, in transactions of a bounded size.

A run that is larger than one transaction may remove is in `deleted_runs` from the
first, in which its record goes and so it can't be found any more, to the last. Its
events go from the end: a reader that is in the midst of them comes to where they
end, and is told that the run is gone.
"""

import sqlite3
from collections.abc import Sequence

from portico.core.stores.deletion_steps import ROW_BYTES, STEP_BYTES, STEP_ROWS, one_step
from portico.core.stores.sql.epoch_fence import Owner
from portico.core.stores.sqlite.log.background_compression import not_beyond_the_end
from portico.core.stores.sqlite.log.log_writer import UNNEEDED_SEGMENTS
from portico.core.stores.sqlite.log.unflushed_chunks import Tails


def remove_some(
    connection: sqlite3.Connection, tails: Tails, run_ids: Sequence[str], owner: Owner
) -> tuple[int, Sequence[str]]:
    """One transaction: how many of the runs it removed the records of, and which runs are left to be removed
    or to be removed in whole. Raises FencedOut."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        owner.check(connection)
        found, left = _remove(connection, tails, run_ids)
        # The runs' text goes from segments, too, as far as nobody else needs them.
        connection.execute(UNNEEDED_SEGMENTS, (tails.first_needed(),))
        not_beyond_the_end(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return found, left


def half_removed(connection: sqlite3.Connection) -> Sequence[str]:
    """Runs that a removal which was cut off has left events of."""
    return [run_id for (run_id,) in connection.execute("SELECT run_id FROM deleted_runs").fetchall()]


def _remove(
    connection: sqlite3.Connection, tails: Tails, run_ids: Sequence[str]
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
    """The size of those removed, and whether that were all."""
    rows = connection.execute(
        "SELECT first, length(data) FROM run_events WHERE run_id = ? ORDER BY first DESC LIMIT ?",
        (run_id, STEP_ROWS + 1),
    ).fetchall()
    firsts = one_step(rows[:STEP_ROWS], room)
    if len(firsts) == len(rows):
        connection.execute("DELETE FROM run_events WHERE run_id = ?", (run_id,))
    else:
        connection.execute("DELETE FROM run_events WHERE run_id = ? AND first >= ?", (run_id, firsts[-1]))
    size = sum(size + ROW_BYTES for _, size in rows[: len(firsts)])
    return size, len(firsts) == len(rows)
