"""The store interface for results of functions that a run calls only once."""

from collections.abc import Sequence
from typing import Protocol


class ResultStore(Protocol):
    """Store of opaque results by run and key. Every method may raise StoreUnavailable."""

    async def get(self, run_id: str, key: str) -> bytes | None: ...

    async def count(self, run_id: str) -> int:
        """Return how many results the run has."""
        ...

    async def keep(self, run_id: str, key: str, result: bytes) -> None:
        """Store a result, unless the key has one. On return it survives a crash. Raises RunNotFound."""
        ...

    async def delete_all(self, run_ids: Sequence[str]) -> int:
        """Delete all results of several runs; return how many."""
        ...
