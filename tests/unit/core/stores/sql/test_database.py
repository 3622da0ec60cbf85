"""Transactions whose callers are cancelled in the middle."""

import asyncio
from pathlib import Path

from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import MemoryRecord


async def test_a_write_that_is_cancelled_leaves_no_lock(tmp_path: Path) -> None:
    stores = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    kept: list[object] = []  # the exceptions, whose tracebacks hold references to cursors
    try:
        memories = [MemoryRecord(f"m{n}", "ada", "s1", "penguin", 1.0) for n in range(4000)]
        await stores.memories.add(memories)
        for turns in range(60):
            deleting = asyncio.create_task(stores.memories.delete("ada", None, None))
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            deleting.cancel()
            kept += await asyncio.gather(deleting, return_exceptions=True)
            await stores.memories.add([MemoryRecord(f"b{turns}", "bob", "s1", "herring", 1.0)])
        assert len(await stores.memories.list("bob", None, None, 100)) == 60
    finally:
        await stores.close()
