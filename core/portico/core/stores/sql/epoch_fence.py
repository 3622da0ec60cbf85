"""Ownership of a database by epoch: only the core with the newest epoch may write.

A core increments the epoch when it opens the database. Each writing transaction reads
the epoch under its own lock, so a replaced core can't write any more. This holds even
if the lock file, which prevents two cores from starting on one database, is removed.
"""

import asyncio
import sqlite3

from portico.core.errors import FencedOut

# The row of `owners` that SQLite databases use. A row stands for a part of the runs; here one owner has all.
SLOT = 0
_CLAIM = (
    "INSERT INTO owners (slot, epoch) VALUES (?, 1)"
    " ON CONFLICT (slot) DO UPDATE SET epoch = epoch + 1 RETURNING epoch"
)
OWNED_CONDITION = "SELECT 1 FROM owners WHERE slot = ? AND epoch = ?"


class EpochFence:
    """One core's ownership. `lost` is set on the event loop, by the caller that catches FencedOut there."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.lost = asyncio.Event()

    @classmethod
    def take_ownership(cls, connection: sqlite3.Connection) -> "EpochFence":
        """Increment the epoch and return the new owner. On return the previous owner can't write any more."""
        ((epoch,),) = connection.execute(_CLAIM, (SLOT,)).fetchall()
        return cls(epoch)

    @property
    def key(self) -> tuple[int, int]:
        """The parameters of OWNED_CONDITION."""
        return SLOT, self.epoch

    def check(self, connection: sqlite3.Connection) -> None:
        """Check ownership, within a writing transaction. Raises FencedOut."""
        if not connection.execute(OWNED_CONDITION, self.key).fetchall():
            raise FencedOut
