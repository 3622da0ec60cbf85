"""`python -m portico.core.doctor`: what is wrong with a database and this machine, and how to mend it."""

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

from portico.core.audit import SHOWN, Audit
from portico.core.errors import StoreUnavailable
from portico.core.settings import CoreSettings
from portico.core.stores.open_stores import check_url
from portico.core.stores.sqlite.log.wal_check import WalUnknown, lost_commits
from portico.core.stores.sqlite.log.wal_identity import check_log
from portico.process.settings import Misconfigured, read
from portico.telemetry.visible import visible

LOW_DISK = 512 * 1024 * 1024
FILES = 4096
AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; a problem makes the exit status 1."""

    level: str  # good, note or problem
    words: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 when nothing is wrong, 1 when something is, 2 for a mistake in the call."""
    parser = argparse.ArgumentParser(
        prog="portico doctor", description="Look for what is wrong. Changes nothing; a core may be running."
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
        print(visible(f"{finding.level:8} {finding.words}"))
        wrong = wrong or finding.level == "problem"
    return 1 if wrong else 0


def _file(url: str) -> Path:
    """Raises ValueError."""
    file = check_url(url)
    if file is None:
        raise ValueError("only databases of sqlite:/// can be looked into; name one with --store")
    return file.path


def _machine(path: Path) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("good", f"Python {version}, SQLite {sqlite3.sqlite_version}")
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < FILES:
        yield Finding("note", f"a process may open {files} files; `ulimit -n {FILES}` allows more streams")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(folder).free
    level = "good" if free > LOW_DISK else "problem"
    yield Finding(level, f"{free // 2**20} MiB of disk are free for {folder}")


def _database(path: Path) -> Iterator[Finding]:
    if words := _foreign_log(path):
        yield Finding("problem", words)
        return
    # First of all: whoever opens the database makes the log's index say what can still be read.
    try:
        loss = lost_commits(path)
    except (WalUnknown, OSError) as why:
        yield Finding("note", f"whether commits are missing at the end of {path}-wal can't be told: {why}")
    else:
        if loss is not None:
            yield Finding("problem", loss.words(str(path)))
            return
    try:
        audit = Audit(path)
    except FileNotFoundError as error:
        yield Finding("note", f"{error}; a core makes it when it starts")
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
    """Why the log beside it is another's; empty if it is not. Asks twice: a core may be at work on both."""
    for last in (False, True):
        try:
            check_log(path)
        except StoreUnavailable as error:
            if last:
                return str(error)
            time.sleep(AGAIN_SECONDS)
        else:
            break
    return ""


_REMEDY = (
    "stop the core, keep a copy of the files, then restore a backup, or save what can be read with"
    " `sqlite3 portico.db .recover | sqlite3 new.db`"
)


def _contents(audit: Audit, path: Path) -> Iterator[Finding]:
    damage = audit.damage()
    yield from (Finding("problem", f"{path}: {words}") for words in damage)
    if damage:
        yield Finding("note", _REMEDY)
        return
    match audit.revision():
        case "none":
            yield Finding("problem", f"{path} is no database of Portico's")
            return
        case "newer":
            yield Finding("problem", f"{path} was written by a newer release of Portico; use that one")
            return
        case "older":
            yield Finding("note", f"{path} is of an older release; the next start of a core brings it up")
            return
    yield Finding("good", f"{path} is whole")
    counts = ", ".join(f"{count} {table}" for table, count in audit.counts().items())
    yield Finding("good", f"it holds {counts}")
    if unfinished := audit.unfinished():
        yield Finding(
            "note", f"{unfinished} runs have not ended; without a core, its next start takes them up"
        )
    broken = list(islice(audit.broken_runs(), SHOWN)) + list(islice(audit.broken_segments(), SHOWN))
    yield from (Finding("problem", words) for words in broken)
    if not broken:
        yield Finding("good", "each run that has ended has all its events once, and one end")


if __name__ == "__main__":
    sys.exit(main())
