"""Whose a database is: that of the core with the newest epoch.

A core takes the next epoch when it opens the database, and each transaction that
writes reads the epoch in the database under the transaction's own lock. So a core
that another has replaced writes nothing more, whatever became of the lock file
that keeps two cores from starting on one database.
"""

import asyncio
import sqlite3

from portico.core.errors import FencedOut

# Of SQLite's. A row of `owners` is for a part of the runs; here one owner has them all.
SLOT = 0
_CLAIM = (
    "INSERT INTO owners (slot, epoch) VALUES (?, 1)"
    " ON CONFLICT (slot) DO UPDATE SET epoch = epoch + 1 RETURNING epoch"
)
IS_OWNED = "SELECT 1 FROM owners WHERE slot = ? AND epoch = ?"


class Owner:
    """One core's claim. `lost` belongs to the event loop: whoever is refused there sets it."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.lost = asyncio.Event()

    @classmethod
    def claim(cls, connection: sqlite3.Connection) -> "Owner":
        """The database's new owner; the one before is replaced when this returns."""
        ((epoch,),) = connection.execute(_CLAIM, (SLOT,)).fetchall()
        return cls(epoch)

    @property
    def key(self) -> tuple[int, int]:
        """The values of IS_OWNED."""
        return SLOT, self.epoch

    def check(self, connection: sqlite3.Connection) -> None:
        """Within a transaction that writes. Raises FencedOut."""
        if not connection.execute(IS_OWNED, self.key).fetchall():
            raise FencedOut
