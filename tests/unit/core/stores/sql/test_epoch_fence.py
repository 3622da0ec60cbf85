"""A core that another core has replaced can't write any more, by any method of any store."""

import inspect
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from portico.core.errors import FencedOut, StoreUnavailable
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.api_keys import KeyRecord
from portico.core.stores.ports.push_configs import PushRecord
from portico.core.stores.ports.stores import (
    Chunk,
    Commit,
    MemoryRecord,
    NewMessage,
    NewSession,
    RunRecord,
    Stores,
)

RUN = RunRecord("r1", "agent", "ada", "s1", "in_progress", 1.0, 1.0, 0, 1, False, None, b"q", b"")
SESSION = NewSession("ada", "s1", 1.0)
MESSAGE = NewMessage("ada", "s1", "m1", "user", "penguin", b"p", 1.0, "r1")
OTHER = NewMessage("ada", "s1", "m2", "user", "walrus", b"p", 1.0, "r1")
MEMORY = MemoryRecord("mem_1", "ada", "s1", "penguins swim", 1.0)
PUSH = PushRecord("r1", "c1", "https://e.org", "", "", "", -1, False, 1.0, "rev", "")
KEY = KeyRecord("k1", b"digest", "", "", "ada", "use", 1.0, None, None)

Write = Callable[[Stores], Awaitable[Any]]
# The methods that write, by store. All other methods only read.
WRITES: dict[str, dict[str, Write]] = {
    "runs": {
        "commit": lambda s: s.runs.commit(Commit([RUN], [Chunk("r1", 1, 1, b"x")])),
        "commit a segment": lambda s: s.runs.commit(Commit(chunks=[Chunk("r1", 1, 1, b"x")])),
        "commit a record": lambda s: s.runs.commit(Commit([RUN])),
        "delete": lambda s: s.runs.delete("r1"),
        "delete_all": lambda s: s.runs.delete_all(["r1"]),
        "give_back": lambda s: s.runs.give_back(),  # type: ignore[attr-defined]
        "pack": lambda s: s.runs.pack(),  # type: ignore[attr-defined]
        "probe": lambda s: s.runs.probe(),  # type: ignore[attr-defined]
        "rewrite": lambda s: s.runs.rewrite(),  # type: ignore[attr-defined]
    },
    "states": {
        "save": lambda s: s.states.save("ada", "s1", None, "{}", None),
        "delete": lambda s: s.states.delete("ada", None, None),
        "expire": lambda s: s.states.expire(1e12, 10),
    },
    "sessions": {
        "create": lambda s: s.sessions.create("ada", "s2", ""),
        "update": lambda s: s.sessions.update("ada", "s1", "{}"),
        "delete": lambda s: s.sessions.delete("ada", "s1"),
        "append": lambda s: s.sessions.append("ada", "s1", [OTHER]),
        "remove": lambda s: s.sessions.remove("ada", "s1", "m1"),
        "fork": lambda s: s.sessions.fork("ada", "s1", "r1", "s2", always=True),
        "search": lambda s: s.sessions.search("ada", "penguin", None, 5),  # it first indexes new messages
        "index_pending": lambda s: s.sessions.index_pending(),
    },
    "memories": {
        "add": lambda s: s.memories.add([MEMORY]),
        "delete": lambda s: s.memories.delete("ada", None, None),
        "update": lambda s: s.memories.update("ada", "mem_0", {"text": "herrings swim"}),
        "expire": lambda s: s.memories.expire(1e12, 10),
        "remove_expired": lambda s: s.memories.remove_expired(1e12, 10),
    },
    "pushes": {
        "set": lambda s: s.pushes.set(PUSH),
        "delete": lambda s: s.pushes.delete("r1", "c1"),
        "delete_all": lambda s: s.pushes.delete_all(["r1"]),
        "acknowledge": lambda s: s.pushes.acknowledge("r1", "c1", "rev", 3, True),
    },
    "results": {
        "keep": lambda s: s.results.keep("r1", "k", b"x"),
        "delete_all": lambda s: s.results.delete_all(["r1"]),
    },
    "keys": {
        "add": lambda s: s.keys.add(KEY),
        "revoke": lambda s: s.keys.revoke("k0", 2.0),
        "delete": lambda s: s.keys.delete(["k0"]),
    },
}
READS = {
    "runs": {
        *("get", "get_by_idempotency_key", "list", "count", "read", "last", "recent_keys"),
        *(
            "unfinished",
            "ephemeral_leftovers",
            "of_user",
            "ended",
            "checkpoint_wal",
            "check_owner",
            "close",
            "record_write",
            "finish_removals",
            "open_room",
            "close_room",
        ),
    },
    "states": {"get", "list"},
    "sessions": {"get", "list", "idle", "messages", "message"},
    "memories": {"search", "list", "get"},
    "pushes": {"get", "list", "all", "undelivered"},
    "results": {"get", "count"},
    "keys": {"all"},
}


def dump(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return [f"{name} {row}" for name in tables for row in connection.execute(f"SELECT * FROM {name}")]


async def two(folder: Path) -> tuple[Stores, Stores]:
    """The stores of a core, and of another that replaced it after the lock file was removed."""
    url = f"sqlite:///{folder}/portico.db"
    first = await open_stores(url)
    await first.runs.commit(Commit([RUN], [Chunk("r1", 0, 0, b"zero")], [MESSAGE], [SESSION]))
    await first.memories.add([MemoryRecord("mem_0", "ada", "s1", "walruses sleep", 1.0)])
    await first.states.save("ada", "s1", None, "{}", None)
    await first.pushes.set(PUSH)
    await first.keys.add(KeyRecord("k0", b"d", "", "", "ada", "use", 1.0, None, None))
    (folder / "portico.db.lock").unlink()
    return first, await open_stores(url)


def test_each_store_is_known() -> None:
    stores = {field.name for field in fields(Stores)}
    shared = {"sizes", "quota", "release", "health", "owned", "lost", "scrub"}
    assert stores - shared == set(WRITES)


async def test_each_method_of_a_store_is_known_to_write_or_to_read(tmp_path: Path) -> None:
    stores = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    for store, writes in WRITES.items():
        names = {name.partition(" ")[0] for name in writes}
        assert public(getattr(stores, store)) == names | READS[store]
    await stores.close()


def public(store: object) -> set[str]:
    found = inspect.getmembers(type(store), inspect.iscoroutinefunction)
    return {name for name, _ in found if not name.startswith("_")}


async def test_a_replaced_core_writes_nothing_by_any_method(tmp_path: Path) -> None:
    first, second = await two(tmp_path)
    before = dump(tmp_path / "portico.db")
    for store, writes in WRITES.items():
        for name, write in writes.items():
            first.lost.clear()
            with pytest.raises(FencedOut, match="another core has taken over"):
                await write(first)
            assert dump(tmp_path / "portico.db") == before, (store, name)
            assert first.lost.is_set(), (store, name)
    with pytest.raises(FencedOut):
        await first.erase()
    await first.close()
    await second.close()


async def test_an_idle_core_notices_that_it_was_replaced(tmp_path: Path) -> None:
    first, second = await two(tmp_path)
    await first.taken_over()
    assert first.lost.is_set()
    assert not second.lost.is_set()
    assert second.owned is not None
    await second.owned()
    await first.close()
    await second.close()


async def test_a_replaced_core_that_closes_leaves_the_new_owner_s_log_alone(tmp_path: Path) -> None:
    first, second = await two(tmp_path)
    await second.runs.commit(Commit(chunks=[Chunk("r1", 1, 1, b"one")]))
    await first.close()
    await second.runs.commit(Commit(chunks=[Chunk("r1", 2, 2, b"two")]))
    # As after a kill: the second core does not clean up.
    (tmp_path / "portico.db.lock").unlink()
    third = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    chunks = await third.runs.read("r1", -1, 1000)
    assert b"".join(chunk.data for chunk in chunks) == b"zeroonetwo"
    with pytest.raises(StoreUnavailable):
        await second.runs.commit(Commit([RUN]))
    await second.close()
    await third.close()
