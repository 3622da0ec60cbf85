"""How much one transaction removes. A commit of the run log waits for it, and all that it frees is in the
write-ahead log, so large things are removed in several.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

STEP_BYTES = 1024 * 1024
STEP_ROWS = 100
ROW_BYTES = STEP_BYTES // STEP_ROWS  # that a row counts for beside its own size

_Key = TypeVar("_Key")


def one_step(rows: Iterable[tuple[_Key, int]], room: int | None = None) -> list[_Key]:
    """The first of these keys, with the sizes of what they stand for, that a transaction may remove: at least
    one if there is any."""
    room = STEP_BYTES if room is None else room
    keys: list[_Key] = []
    for key, size in rows:
        if keys and size > room:
            break
        keys.append(key)
        room -= size + ROW_BYTES
    return keys


async def in_steps(items: Iterable[_Key]) -> AsyncIterator[_Key]:
    """The items, for who works on the event loop: others have a turn behind each step."""
    for number, item in enumerate(items, 1):
        yield item
        if number % STEP_ROWS == 0:
            await asyncio.sleep(0)
