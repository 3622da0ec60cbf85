"""Checks a database for damage and for incomplete logs: read-only, with or without a running core."""

import sqlite3
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

from google.protobuf.message import DecodeError

from portico.core.convert.enums import STATUS_TO_PROTO
from portico.core.stores.sql.compression import decompress
from portico.core.stores.sqlite.log.log_writer import IS_UNFINISHED
from portico.core.stores.sqlite.log.unflushed_chunks import decode
from portico.core.stores.sqlite.migrate import newest, revision_of, revisions
from portico.model.run_status import TERMINAL_STATUSES, UNFINISHED_STATUSES
from portico.v1 import query_pb2

TERMINAL_PROTO_STATUSES = frozenset(STATUS_TO_PROTO[status] for status in TERMINAL_STATUSES)
MAX_REPORTED_PROBLEMS = 20  # most problems of one kind to report


class DatabaseCheck:
    """Consistency checks of one database file. Every method blocks."""

    def __init__(self, path: Path) -> None:
        """Opens the database. Raises FileNotFoundError if it does not exist, sqlite3.Error if it can't be
        opened."""
        if not path.is_file():
            raise FileNotFoundError(f"there is no database {path}")
        self._connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
        # One read transaction: all checks see the same state while a core writes.
        self._connection.execute("BEGIN")

    def close(self) -> None:
        self._connection.close()

    def file_problems(self) -> list[str]:
        """Problems that SQLite's integrity check finds in the file."""
        try:
            rows = self._connection.execute(f"PRAGMA integrity_check({MAX_REPORTED_PROBLEMS})").fetchall()
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return [text for (text,) in rows if text != "ok"]

    def schema_revision(self) -> str:
        """Schema revision: `newest`, `older` (the next start of a core upgrades it), `newer` than this
        release, or `none` (not Portico's)."""
        try:
            found = revision_of(self._connection)
        except sqlite3.OperationalError:
            found = ""
        if not found:
            return "none"
        if found == newest():
            return "newest"
        return "older" if found in revisions() else "newer"

    def counts(self) -> dict[str, int]:
        """Row counts by table."""
        return {
            table: self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            for table in ("runs", "sessions", "messages", "memories", "states")
        }

    def unfinished(self) -> int:
        """Number of runs that have not ended: live ones, or those that the next start recovers."""
        (count,) = self._connection.execute(
            f"SELECT count(*) FROM runs WHERE {IS_UNFINISHED}"  # noqa: S608
        ).fetchone()
        return int(count)

    def broken_runs(self) -> Iterator[str]:
        """Ended runs whose log has gaps, duplicates, no terminal event, or events after it."""
        select = "SELECT run_id, status, last_sequence_number FROM runs"
        for run_id, status, last in self._connection.execute(select):
            if status not in UNFINISHED_STATUSES:
                problem = self._problem(run_id, last)
                if problem:
                    yield f"{run_id} ({status}): {problem}"

    def broken_segments(self) -> Iterator[str]:
        """Log segments (chunks not yet written as rows) that can't be read."""
        for segment_id, data in self._connection.execute("SELECT segment_id, data FROM log_segments"):
            try:
                for chunk in decode(data):
                    query_pb2.QueryResponse.FromString(chunk.data)
            except (struct.error, ValueError, DecodeError):
                yield f"segment {segment_id} of the log can't be read"

    def _row(self, run_id: str, first: int) -> bytes:
        """Events of one row. Raises ValueError if the row is missing."""
        ((data,),) = self._connection.execute(
            "SELECT data FROM run_events WHERE run_id = ? AND first = ?", (run_id, first)
        ).fetchall()
        return decompress(data)

    def _problem(self, run_id: str, last: int) -> str:
        expected = 0
        terminals = 0
        rows = self._connection.execute(
            "SELECT first, last, data FROM run_events WHERE run_id = ? ORDER BY first", (run_id,)
        )
        for first, end, data in rows:
            if first != expected:
                return f"event {expected} is {'missing' if first > expected else 'stored twice'}"
            try:
                frame = decompress(data, partial(self._row, run_id))
                events = query_pb2.QueryResponse.FromString(frame).events
            except (DecodeError, ValueError, struct.error, zlib.error):
                return f"events {first} to {end} can't be read"
            numbers = [event.sequence_number for event in events]
            if numbers != list(range(first, end + 1)):
                return f"events {first} to {end} are numbered {numbers[:3]}…"
            if terminals:
                return f"event {first} comes after the terminal one"
            terminals = sum(
                event.HasField("response") and event.response.status in TERMINAL_PROTO_STATUSES
                for event in events
            )
            expected = end + 1
        if expected != last + 1:
            return f"its log ends at event {expected - 1}, its record says {last}"
        return "" if terminals == 1 else f"{terminals} terminal events"
