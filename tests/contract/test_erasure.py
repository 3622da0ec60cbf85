"""Erased data is in no file of a store; the tests search the files byte by byte."""

import asyncio
import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from portico.core.errors import StoreUnavailable
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import (
    Chunk,
    Commit,
    MemoryRecord,
    NewMessage,
    NewSession,
    RunRecord,
    Stores,
)
from portico.core.stores.sqlite import erasure

SECRET = "alabaster"
USERS = ("ada", "bob", "cy", "dee", "eve")


def remains(directory: Path) -> list[str]:
    """The files that contain the word, in plain form or as FTS5 stores it in its index."""
    return [file.name for file in directory.iterdir() if SECRET.encode() in file.read_bytes().lower()]


class Life:
    """Add much data of each kind for ada and others, interleaved. Only ada's contains the word."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def words(self, user: str) -> str:
        own = SECRET if user == "ada" else "granite"
        size = self._random.choice((3, 30, 300))
        return " ".join(f"{own}{self._random.randrange(50)} lamp" for _ in range(size))

    async def lived(self, stores: Stores, turns: int) -> None:
        for number in range(turns):
            user = self._random.choice(USERS)
            await self._turn(stores, user, number)
            if number % 20 == 0:
                await stores.sessions.index_pending()
            if number % 50 == 0:
                await stores.memories.delete(self._random.choice(USERS), None, None)

    async def _turn(self, stores: Stores, user: str, number: int) -> None:
        name, session = f"resp_{self._random.getrandbits(64):016x}", f"s{number % 5}"
        words = self.words(user)
        run = record(name, user, session, words)
        said = NewMessage(user, session, f"m{number}", "user", words, words.encode(), number, name)
        await stores.runs.commit(
            Commit([run], [chunk(name, 0, words[:100])], [said], [NewSession(user, session, number)])
        )
        if number % 7:  # the other runs are unfinished, with a tail in the segments
            # A longer value that replaces a shorter one moves, within its page or to another.
            await stores.runs.commit(Commit([replace(run, summary=words.encode())], [chunk(name, 1, words)]))
            await stores.runs.commit(Commit([replace(run, status="completed")], [chunk(name, 2, words)]))
        await stores.states.save(user, session, number % 3, f'"{words}"', None)
        memory = MemoryRecord(f"mem_{number}", user, session, words, number, f'{{"k": "{words[:40]}"}}')
        await stores.memories.add([memory])


def record(name: str, user: str, session: str, words: str) -> RunRecord:
    return RunRecord(name, "a", user, session, "in_progress", 1, 1, 2, 1, False, words[:20], b"?", b"")


def chunk(name: str, number: int, words: str) -> Chunk:
    return Chunk(name, number, number, words.encode())


async def forget(stores: Stores, user: str) -> None:
    await stores.runs.delete_all(await stores.runs.of_user(user, 10_000))
    for session in await stores.sessions.list(user, None, 1000):
        await stores.sessions.delete(user, session.session_id)
    await stores.states.delete(user, None, None)
    await stores.memories.delete(user, None, None)


# With these seeds remains are left between the rows of a page.
@pytest.mark.parametrize("seed", [0, 5])
async def test_no_byte_of_what_was_deleted_is_left(tmp_path: Path, seed: int) -> None:
    stores = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    await Life(seed).lived(stores, 200)
    assert remains(tmp_path)
    await forget(stores, "ada")
    await stores.erase()
    assert remains(tmp_path) == []
    await stores.close()
    assert remains(tmp_path) == []


async def test_what_others_have_stays_whole(stores: Stores) -> None:
    await Life(7).lived(stores, 100)
    others = [user for user in USERS if user != "ada"]

    async def everything() -> list[object]:
        runs = [run_id for user in others for run_id in sorted(await stores.runs.of_user(user, 1000))]
        logs = [b"".join(c.data for c in await stores.runs.read(run_id, -1, 1 << 30)) for run_id in runs]
        hits = [len(await stores.sessions.search(user, "lamp", None, 1000)) for user in others]
        found = [len(await stores.memories.search(user, "lamp", 1000)) for user in others]
        return [runs, logs, hits, found]

    before = await everything()
    await forget(stores, "ada")
    # Several callers erase at once.
    await asyncio.gather(*(stores.erase() for _ in range(5)))
    assert await everything() == before
    assert not await stores.sessions.search("ada", "lamp", None, 10)
    assert not await stores.memories.search("ada", "lamp", 10)


async def test_runs_that_are_written_meanwhile_go_on(stores: Stores) -> None:
    run = record("r1", "bob", "s", "")
    await stores.runs.commit(Commit([run], [chunk("r1", 0, "0")]))
    erasing = asyncio.ensure_future(stores.erase())
    for number in range(1, 50):
        await stores.runs.commit(Commit([], [chunk("r1", number, f" {number}")]))
    await erasing
    await stores.runs.commit(Commit([replace(run, status="completed")], [chunk("r1", 50, " 50")]))
    text = b"".join(c.data for c in await stores.runs.read("r1", -1, 1 << 20))
    assert [int(number) for number in text.split()] == list(range(51))


async def test_who_reads_on_and_on_is_waited_for_and_then_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "TRIES", 2)
    monkeypatch.setattr(erasure, "RETRY_SECONDS", 0.01)
    stores = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    await stores.states.save("ada", "s", None, f'"{SECRET}"', None)
    with closing(sqlite3.connect(tmp_path / "portico.db", isolation_level=None)) as backup:
        backup.execute("BEGIN")
        backup.execute("SELECT * FROM states").fetchall()
        await stores.states.delete("ada", None, None)
        with pytest.raises(StoreUnavailable, match="retry when it has finished"):
            await stores.erase()
    await stores.erase()
    assert remains(tmp_path) == []
    await stores.close()
