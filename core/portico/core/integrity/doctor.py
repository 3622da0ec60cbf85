"""`python -m portico.core.integrity.doctor`: checks a database and this machine, and prints remedies."""

import argparse
import resource
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from portico.core.errors import StoreUnavailable
from portico.core.integrity.database_check import MAX_REPORTED_PROBLEMS, DatabaseCheck
from portico.core.settings.core_settings import CoreSettings
from portico.core.stores.open_stores import database_file_of
from portico.core.stores.sqlite.log.wal_check import WalUnknown, find_lost_commits
from portico.core.stores.sqlite.log.wal_identity import check_wal_belongs
from portico.process.settings import Misconfigured, read
from portico.telemetry.log.terminal_text import escape_control_characters

LOW_DISK = 512 * 1024 * 1024
MIN_OPEN_FILES = 4096
RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; a problem makes the exit status 1."""

    level: str  # good, note or problem
    words: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the findings.

    Returns:
        The exit status: 0 without problems, 1 with problems, 2 for wrong arguments or variables.
    """
    parser = argparse.ArgumentParser(
        prog="portico doctor",
        description="Check a database and this machine for problems. Changes nothing; a core may be running.",
    )
    try:
        store = read(CoreSettings, {}).store
    except Misconfigured as error:
        print(f"portico doctor: {error}", file=sys.stderr)
        return 2
    parser.add_argument("--data-dir", type=Path, help="The data directory of `portico run`.")
    parser.add_argument("--store", default=store, help=f"The store's URL. Default: {store}.")
    options = parser.parse_args(arguments)
    try:
        path = options.data_dir / "portico.db" if options.data_dir else _file(options.store)
    except ValueError as error:
        print(f"portico doctor: {error}", file=sys.stderr)
        return 2
    wrong = False
    for finding in (*_machine(path), *_database(path)):
        print(escape_control_characters(f"{finding.level:8} {finding.words}"))
        wrong = wrong or finding.level == "problem"
    return 1 if wrong else 0


def _file(url: str) -> Path:
    """The database file of a store's URL. Raises ValueError for a store without one."""
    file = database_file_of(url)
    if file is None:
        raise ValueError("only sqlite:/// databases can be checked; name one with --store")
    return file


def _machine(path: Path) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("good", f"Python {version}, SQLite {sqlite3.sqlite_version}")
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < MIN_OPEN_FILES:
        yield Finding(
            "note", f"a process may open only {files} files; `ulimit -n {MIN_OPEN_FILES}` allows more streams"
        )
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(folder).free
    level = "good" if free > LOW_DISK else "problem"
    yield Finding(level, f"{free // 2**20} MiB of disk space are free in {folder}")


def _database(path: Path) -> Iterator[Finding]:
    if words := _foreign_log(path):
        yield Finding("problem", words)
        return
    # This check comes first: opening the database rewrites the write-ahead log's index, and with it the
    # evidence of lost commits.
    try:
        loss = find_lost_commits(path)
    except (WalUnknown, OSError) as why:
        yield Finding("note", f"can't check whether commits are missing at the end of {path}-wal: {why}")
    else:
        if loss is not None:
            yield Finding("problem", loss.words(str(path)))
            return
    try:
        audit = DatabaseCheck(path)
    except FileNotFoundError as error:
        yield Finding("note", f"{error}; a core creates it when it starts")
        return
    except sqlite3.Error as error:
        yield Finding("problem", f"{path} can't be opened: {error}")
        return
    try:
        yield from _contents(audit, path)
    except sqlite3.DatabaseError as error:
        yield Finding("problem", f"{path} can't be read: {error}; {_REMEDY}")
    finally:
        audit.close()


def _foreign_log(path: Path) -> str:
    """Why the write-ahead log does not belong to the database; empty if it does. Checks twice: a running core
    may change both between two reads."""
    for last in (False, True):
        try:
            check_wal_belongs(path)
        except StoreUnavailable as error:
            if last:
                return str(error)
            time.sleep(RETRY_SECONDS)
        else:
            break
    return ""


_REMEDY = (
    "stop the core, copy the files, then restore a backup, or recover the readable part with"
    " `sqlite3 portico.db .recover | sqlite3 new.db`"
)


def _contents(audit: DatabaseCheck, path: Path) -> Iterator[Finding]:
    damage = audit.file_problems()
    yield from (Finding("problem", f"{path}: {words}") for words in damage)
    if damage:
        yield Finding("note", _REMEDY)
        return
    match audit.schema_revision():
        case "none":
            yield Finding("problem", f"{path} is not a Portico database")
            return
        case "newer":
            yield Finding("problem", f"{path} was written by a newer release of Portico; use that release")
            return
        case "older":
            yield Finding("note", f"{path} is from an older release; the next start of a core upgrades it")
            return
    yield Finding("good", f"{path} is intact")
    counts = ", ".join(f"{count} {table}" for table, count in audit.counts().items())
    yield Finding("good", f"it holds {counts}")
    if unfinished := audit.unfinished():
        yield Finding(
            "note", f"{unfinished} runs have not ended; if no core is running, the next start recovers them"
        )
    broken = list(islice(audit.broken_runs(), MAX_REPORTED_PROBLEMS)) + list(
        islice(audit.broken_segments(), MAX_REPORTED_PROBLEMS)
    )
    yield from (Finding("problem", words) for words in broken)
    if not broken:
        yield Finding("good", "every ended run has all its events exactly once and one terminal event")


if __name__ == "__main__":
    sys.exit(main())
