"""How much one transaction removes. A commit of the run log waits for it, and all that it frees is in the
write-ahead log, so large things are removed in several.
"""

from collections.abc import Iterable
from typing import TypeVar

STEP_BYTES = 1024 * 1024
STEP_ROWS = 200

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
        room -= size
    return keys
