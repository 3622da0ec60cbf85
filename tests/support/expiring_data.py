"""A program that fills a database with expired runs, and removes them as a core does.

Its last line is JSON: the sizes of the database's files in bytes, before, at most, and after.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from portico.agent import AgentApp
from portico.core.convert.events import ProtoEncoder
from portico.core.hosts.local.local_host import LocalHost
from portico.core.lifecycle.retention import Retention, RetentionTtls
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import Chunk, Commit, RunRecord, Stores
from portico.core.stores.sqlite.log import maintenance

RUNS = 16
CHUNKS = 8
CHUNK_BYTES = 256 * 1024
RUN = RunRecord("live", "echo", "ada", "s1", "in_progress", 1.0, 1.0, 0, 1, False, None, b"q", b"")


def sizes(folder: Path) -> int:
    """Returns the sizes of the files, without the reserve."""
    files = [file for file in folder.glob("portico.db*") if file.suffix != ".reserve"]
    return sum(file.stat().st_size for file in files)


async def fill(stores: Stores, folder: Path) -> None:
    for number in range(RUNS):
        name = f"old{number}"
        run = RunRecord(name, "echo", "ada", "s1", "completed", 1.0, 1.0, 7, 1, False, None, b"q", b"")
        for index in range(CHUNKS):
            chunk = Chunk(name, index, index, os.urandom(CHUNK_BYTES))
            await stores.runs.commit(Commit([run], [chunk]))
        await settled(folder)


async def settled(folder: Path) -> None:
    """Returns when the write-ahead log is empty."""
    while (folder / "portico.db-wal").stat().st_size:
        await asyncio.sleep(0.05)


async def writing(stores: Stores) -> None:
    """Writes commits of a live run meanwhile. Raises StoreUnavailable if one is refused."""
    number = 0
    while True:
        await stores.runs.commit(Commit([RUN], [Chunk("live", number, number, b"x" * 1000)]))
        number += 1
        await asyncio.sleep(0.002)


async def looking(folder: Path, most: list[int]) -> None:
    while True:
        most.append(sizes(folder))
        await asyncio.sleep(0.001)


async def main(folder: Path) -> None:
    app = AgentApp("echo")

    @app.query
    async def query() -> AsyncIterator[str]:
        yield ""

    maintenance.IDLE_SECONDS = 0.1
    stores = await open_stores(f"sqlite:///{folder}/portico.db")
    await fill(stores, folder)
    before = sizes(folder)
    engine = RunEngine(LocalHost([app]), stores, ProtoEncoder())
    most: list[int] = []
    others = [asyncio.create_task(writing(stores)), asyncio.create_task(looking(folder, most))]
    await Retention(engine, stores, RetentionTtls(runs=60.0)).sweep()
    assert not others[0].done(), others[0].exception()
    for other in others:
        other.cancel()
        with suppress(asyncio.CancelledError):
            await other
    left = len(await stores.runs.ended(2.0, 100))
    # The space is freed with the database open, once no writer is active.
    for _ in range(600):
        if sizes(folder) < before / 3:
            break
        await asyncio.sleep(0.1)
    after = sizes(folder)
    await stores.close()
    print(json.dumps({"before": before, "most": max(most), "after": after, "left": left}))


asyncio.run(main(Path(sys.argv[1])))
