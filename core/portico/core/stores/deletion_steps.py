"""Limits how much one transaction deletes.

A commit of the run log waits for the transaction, and every page that it frees is
written to the write-ahead log, so large deletes are split into several transactions.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

STEP_BYTES = 1024 * 1024
STEP_ROWS = 100
ROW_BYTES = STEP_BYTES // STEP_ROWS  # counted per row, in addition to its own size

_Key = TypeVar("_Key")


def next_batch(rows: Iterable[tuple[_Key, int]], room: int | None = None) -> list[_Key]:
    """Return the keys that one transaction may delete, at least one if there is any.

    Args:
        rows: Keys with the size in bytes that each deletes.
        room: The most bytes to delete; by default STEP_BYTES.
    """
    room = STEP_BYTES if room is None else room
    keys: list[_Key] = []
    for key, size in rows:
        if keys and size > room:
            break
        keys.append(key)
        room -= size + ROW_BYTES
    return keys


async def batches(items: Iterable[_Key]) -> AsyncIterator[_Key]:
    """Yield the items, and let other tasks of the event loop run after every STEP_ROWS of them."""
    for number, item in enumerate(items, 1):
        yield item
        if number % STEP_ROWS == 0:
            await asyncio.sleep(0)
