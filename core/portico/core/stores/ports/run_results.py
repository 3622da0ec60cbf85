"""What functions gave that a run calls once: what the core asks of a store."""

from collections.abc import Sequence
from typing import Protocol


class ResultStore(Protocol):
    """Results by run and key, opaque here. Every method raises StoreUnavailable as the other stores do."""

    async def get(self, run_id: str, key: str) -> bytes | None: ...

    async def count(self, run_id: str) -> int:
        """How many the run has."""
        ...

    async def keep(self, run_id: str, key: str, result: bytes) -> None:
        """On return it survives a crash. The first of a key stays. Raises RunNotFound."""
        ...

    async def delete_all(self, run_ids: Sequence[str]) -> int:
        """All of those runs; how many there were."""
        ...
