"""The metric of the sizes of a database's files."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from portico.telemetry.metrics import counters

SECONDS = 1.0  # the longest wait for a locked database


def register_size_metrics(database: Path) -> None:
    """Report the metric for this database from now on."""
    counters.gauge(
        "portico.store.size",
        "By",
        "Bytes of the database's file, of its write-ahead log, and of the free pages in the file.",
        lambda: [(size, {"part": part}) for part, size in sizes(database)],
    )


def sizes(database: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and the bytes of each part, without parts that can't be read now. Blocks."""
    try:
        yield "database", database.stat().st_size
        wal = database.with_name(f"{database.name}-wal")
        yield "wal", wal.stat().st_size if wal.exists() else 0
        # Through SQLite, because closing a file that this process opened directly would drop its locks on it.
        with closing(
            sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=SECONDS)
        ) as connection:
            ((free,),) = connection.execute("PRAGMA freelist_count").fetchall()
            ((page_bytes,),) = connection.execute("PRAGMA page_size").fetchall()
        yield "free", free * page_bytes
    except (OSError, sqlite3.Error):
        return
