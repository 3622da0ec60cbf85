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
STEP_SECONDS = 0.010  # that a transaction of a deletion of very many rows should take
LEAST_ROWS, MOST_ROWS = 50, 400  # of such a transaction

_Key = TypeVar("_Key")


class StepSize:
    """How many rows the next transaction of one deletion may delete: as many as take about STEP_SECONDS.

    More rows in one transaction cost less each, and every other write waits for the transaction.
    """

    def __init__(self) -> None:
        self.rows = STEP_ROWS

    @property
    def row_bytes(self) -> int:
        """What `next_batch` counts for a row beside its size, so that `rows` of them fit."""
        return -(-STEP_BYTES // self.rows)

    def took(self, seconds: float) -> None:
        """Fit the next transaction to the time that one of this size took."""
        factor = min(2.0, STEP_SECONDS / max(seconds, 1e-6))
        self.rows = max(LEAST_ROWS, min(int(self.rows * factor), MOST_ROWS))


def next_batch(
    rows: Iterable[tuple[_Key, int]], room: int | None = None, row_bytes: int = ROW_BYTES
) -> list[_Key]:
    """Return the keys that one transaction may delete, at least one if there is any.

    Args:
        rows: Keys with the size in bytes that each deletes.
        room: The most bytes to delete; by default STEP_BYTES.
        row_bytes: What is counted for each row beside its size.
    """
    room = STEP_BYTES if room is None else room
    keys: list[_Key] = []
    for key, size in rows:
        if keys and size > room:
            break
        keys.append(key)
        room -= size + row_bytes
    return keys


async def batches(items: Iterable[_Key]) -> AsyncIterator[_Key]:
    """Yield the items, and let other tasks of the event loop run after every STEP_ROWS of them."""
    for number, item in enumerate(items, 1):
        yield item
        if number % STEP_ROWS == 0:
            await asyncio.sleep(0)
