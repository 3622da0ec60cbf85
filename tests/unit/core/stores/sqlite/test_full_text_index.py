"""How much of a search index one transaction writes."""

import sqlite3
from contextlib import closing
from pathlib import Path

from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import MemoryRecord


async def test_those_who_write_keep_the_index_merged_and_sqlite_does_not(tmp_path: Path) -> None:
    path = tmp_path / "portico.db"
    stores = await open_stores(f"sqlite:///{path}")
    for number in range(300):
        text = f"walks number {number} in park {number % 7}"
        await stores.memories.add([MemoryRecord(f"m{number}", "ada", "s1", text, float(number))])
    for number in range(0, 300, 2):
        await stores.memories.delete("ada", None, f"m{number}")
    with closing(sqlite3.connect(path)) as connection:
        settings = dict(connection.execute("SELECT k, v FROM memory_search_config"))
        ((parts,),) = connection.execute("SELECT count(DISTINCT segid) FROM memory_search_idx").fetchall()
    assert settings["automerge"] == 0
    assert parts <= 16
    assert len(await stores.memories.search("ada", "walks", 1000)) == 150
    await stores.close()
