"""How large a database's files are, in numbers."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from portico.telemetry.metrics import counters

SECONDS = 1.0  # that a look waits for a database which is locked


def watch(database: Path) -> None:
    """Tell it from now on."""
    counters.gauge(
        "portico.store.size",
        "By",
        "Bytes of the database's file, of its write-ahead log, and of the pages in the file that are free.",
        lambda: [(size, {"part": part}) for part, size in sizes(database)],
    )


def sizes(database: Path) -> Iterator[tuple[str, int]]:
    """The bytes of each part. Leaves out what can't be read now. Blocks."""
    try:
        yield "database", database.stat().st_size
        wal = database.with_name(f"{database.name}-wal")
        yield "wal", wal.stat().st_size if wal.exists() else 0
        # Through SQLite: closing the file after a look of our own would drop the locks of this process on it.
        with closing(
            sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=SECONDS)
        ) as connection:
            ((free,),) = connection.execute("PRAGMA freelist_count").fetchall()
            ((page_bytes,),) = connection.execute("PRAGMA page_size").fetchall()
        yield "free", free * page_bytes
    except (OSError, sqlite3.Error):
        return
