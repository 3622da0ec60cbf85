"""The table of store drivers; it finds one by the scheme of a URL and opens its stores.

Another package registers a driver as an entry point of the group `portico.stores`: the scheme, and a
StoreDriver.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from portico.core.errors import StoreUnavailable
from portico.core.stores.disk_reserve import DiskReserve, ReserveRelease
from portico.core.stores.memory.api_keys import MemoryKeyStore
from portico.core.stores.memory.memories import MemoryMemoryStore
from portico.core.stores.memory.push_configs import MemoryPushStore
from portico.core.stores.memory.run_log import MemoryRunLog
from portico.core.stores.memory.run_results import MemoryResultStore
from portico.core.stores.memory.sessions import MemorySessionStore
from portico.core.stores.memory.states import MemoryStateStore
from portico.core.stores.memory.stored_sizes import MemorySizeStore
from portico.core.stores.ports.store_health import StoreHealth
from portico.core.stores.ports.stores import Stores
from portico.core.stores.sql.api_keys import SqlKeyStore
from portico.core.stores.sql.database import Database, sqlite_engine
from portico.core.stores.sql.memories import SqlMemoryStore
from portico.core.stores.sql.push_configs import SqlPushStore
from portico.core.stores.sql.run_results import SqlResultStore
from portico.core.stores.sql.sessions import SqlSessionStore
from portico.core.stores.sql.states import SqlStateStore
from portico.core.stores.sql.write_lock import WriteLock
from portico.core.stores.sqlite import file_metrics
from portico.core.stores.sqlite.database_file import SqliteFile
from portico.core.stores.sqlite.database_lock import DatabaseLock
from portico.core.stores.sqlite.erasure import SqliteErasure
from portico.core.stores.sqlite.log.run_log import SqliteRunLog
from portico.core.stores.sqlite.log.wal_check import WalUnknown, find_lost_commits
from portico.core.stores.sqlite.log.wal_identity import check_wal_belongs
from portico.core.stores.sqlite.migrate import migrate
from portico.core.stores.sqlite.stored_sizes import SqliteSizeStore
from portico.core.stores.sqlite.text_search import SqliteMemoryIndex, SqliteMessageIndex

log = logging.getLogger(__name__)

GROUP: Final = "portico.stores"
SYNCHRONOUS = ("normal", "full")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreDriver:
    """One kind of store: a row of the table. Its functions raise ValueError for a URL that they do not
    accept."""

    forms: Sequence[str]  # the forms of its URLs, for messages
    check: Callable[[URL], object]  # refuses a URL that the driver cannot open
    open: Callable[[URL, bool], Awaitable[Stores]]  # the flag asks for a copy before a migration
    directory: Callable[[URL], str] | None = None  # the directory of the store's files; None if it has none
    # The SQLite database of the store, which `portico doctor` checks; None if the doctor cannot check it.
    database_file: Callable[[URL], Path] | None = None


async def open_stores(url: str, *, migration_copy: bool = True) -> Stores:
    """Open all stores of a URL.

    Args:
        url: memory://, sqlite:// with the path of a file, or a URL of another package's store.
        migration_copy: Copy a database of an older release before its migration.

    Raises:
        ValueError: The URL names no supported store.
        StoreUnavailable: The database can't be used.
    """
    driver, parsed = _find(url)
    driver.check(parsed)
    return await driver.open(parsed, migration_copy)


def check_url(url: str) -> None:
    """Raise ValueError for a URL that names no supported store."""
    driver, parsed = _find(url)
    driver.check(parsed)


def directory_of(url: str) -> str:
    """Return the directory of a store's files; "" for a store without one. Raises ValueError for an
    unsupported URL."""
    driver, parsed = _find(url)
    return "" if driver.directory is None else driver.directory(parsed)


def database_file_of(url: str) -> Path | None:
    """Return the SQLite database of a store; None for a store without one. Raises ValueError for an
    unsupported URL."""
    driver, parsed = _find(url)
    return None if driver.database_file is None else driver.database_file(parsed)


def supported_urls() -> str:
    """Return the forms of all stores' URLs in words, those of other packages last."""
    own = [form for driver in DRIVERS.values() for form in driver.forms]
    others = {point.name for point in entry_points(group=GROUP)} - DRIVERS.keys()
    *first, last = [*own, *(f"{scheme}://" for scheme in sorted(others))]
    return f"{', '.join(first)} and {last}"


def _find(url: str) -> tuple[StoreDriver, URL]:
    """Return the driver of a URL. Raises ValueError if there is none."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The message does not repeat the URL, which may contain a password.
        raise ValueError(f"invalid store URL; supported are {supported_urls()}") from None
    scheme = parsed.drivername
    driver = DRIVERS.get(scheme) or _registered(scheme)
    if driver is None:
        raise ValueError(f"unsupported store URL {scheme}://; supported are {supported_urls()}")
    return driver, parsed


def _registered(scheme: str) -> StoreDriver | None:
    """Return the driver that another package registers. Raises ValueError if it can't be imported."""
    for point in entry_points(group=GROUP, name=scheme):
        try:
            driver: StoreDriver = point.load()
        except ImportError as error:
            raise ValueError(f"the store {scheme}:// can't be imported ({error})") from error
        return driver
    return None


async def _open_memory(url: URL, migration_copy: bool) -> Stores:
    sessions, memories = MemorySessionStore(), MemoryMemoryStore()
    states = MemoryStateStore(sessions.has)
    sessions.deleted = states.session_deleted
    runs = MemoryRunLog(sessions.keep)
    results = MemoryResultStore(runs.owner_of)
    return Stores(
        runs=runs,
        states=states,
        sessions=sessions,
        memories=memories,
        pushes=MemoryPushStore(),
        results=results,
        keys=MemoryKeyStore(),
        sizes=MemorySizeStore((runs, results, sessions, states, memories)),
    )


def _file(url: URL) -> SqliteFile:
    if not url.database or url.database == ":memory:" or url.host:
        raise ValueError(f"the URL names no file; supported are {supported_urls()}")
    options = dict(url.query)
    synchronous = str(options.pop("synchronous", "normal"))
    if synchronous not in SYNCHRONOUS:
        raise ValueError(f"synchronous must be one of {', '.join(SYNCHRONOUS)}")
    if options:
        raise ValueError(f"unknown option {next(iter(options))!r} of sqlite://; expected synchronous")
    return SqliteFile(Path(url.database).absolute(), synchronous)


async def _open_sqlite(url: URL, migration_copy: bool) -> Stores:
    file = _file(url)
    lock = DatabaseLock(file.path)
    health = StoreHealth()
    reserve = DiskReserve(file.path)
    turn = WriteLock(health)
    runs = await asyncio.to_thread(_open_log, file, turn, lock, reserve, migration_copy)
    file_metrics.register_size_metrics(file.path)
    turn.room = room = ReserveRelease(reserve, runs)
    health.probe = room.probe
    database = Database(sqlite_engine(file), turn, runs.owner, runs.record_write)
    erasure = SqliteErasure(database, runs)
    sizes = SqliteSizeStore(file, runs.tail_bytes)

    async def release() -> None:
        await sizes.close()
        await database.close()
        if not runs.owner.lost.is_set():
            # An orderly shutdown needs some disk space too.
            await asyncio.to_thread(reserve.release_space)

    return Stores(
        runs=runs,
        states=SqlStateStore(database),
        sessions=SqlSessionStore(database, SqliteMessageIndex(database)),
        memories=SqlMemoryStore(database, SqliteMemoryIndex(database)),
        pushes=SqlPushStore(database),
        results=SqlResultStore(database),
        keys=SqlKeyStore(database),
        sizes=sizes,
        release=release,
        health=health,
        owned=runs.check_owner,
        lost=runs.owner.lost,
        scrub=erasure.erase,
    )


def _open_log(
    file: SqliteFile, turn: asyncio.Lock, lock: DatabaseLock, reserve: DiskReserve, migration_copy: bool
) -> SqliteRunLog:
    try:
        file.make()
        lock.acquire()
    except OSError as error:
        raise StoreUnavailable(f"can't write to the database's directory: {error.strerror}") from error
    try:
        check_wal_belongs(file.path)
        _check_log_end(file.path)
        # A start needs some disk space too, for the files that SQLite keeps beside the database.
        reserve.release_space()
        migrate(file, copy=migration_copy)
        runs = SqliteRunLog(file, turn, lock)
        lock.record_boot()
        reserve.reserve_space()
        return runs
    except BaseException:
        lock.release()
        raise


def _check_log_end(database: Path) -> None:
    """Raise StoreUnavailable when commits are lost. Opening the database would overwrite their remains."""
    try:
        loss = find_lost_commits(database)
    except WalUnknown as why:
        log.warning("can't check the end of the write-ahead log for lost commits: %s", why)
        return
    except OSError as error:
        raise StoreUnavailable(f"can't read the write-ahead log: {error.strerror}") from error
    if loss is not None:
        raise StoreUnavailable(loss.words(database.name))


# Not entry points, because they must be found in a source tree that is not installed too.
DRIVERS: Final[Mapping[str, StoreDriver]] = {
    "memory": StoreDriver(forms=("memory://",), check=lambda url: None, open=_open_memory),
    "sqlite": StoreDriver(
        forms=("sqlite:///relative.db", "sqlite:////absolute.db"),
        check=_file,
        open=_open_sqlite,
        directory=lambda url: str(_file(url).path.parent),
        database_file=lambda url: _file(url).path,
    ),
}
