"""Measures the content of the stores in memory."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from portico.core.stores.ports.stored_sizes import SizeScope


class Sized(Protocol):
    """A store in memory that can measure its content."""

    def stored_bytes(self, has: Callable[[str], bool]) -> int:
        """Return the bytes stored for the owners for whom `has` returns True."""
        ...


class MemorySizeStore:
    def __init__(self, stores: Sequence[Sized]) -> None:
        self._stores = stores

    async def stored_bytes(self, whose: SizeScope) -> int:
        return sum(store.stored_bytes(whose.includes) for store in self._stores)

    async def owners(self) -> AsyncIterator[Sequence[str]]:
        found: set[str] = set()

        def note(owner: str) -> bool:
            found.add(owner)
            return False

        for store in self._stores:
            store.stored_bytes(note)
        yield tuple(found)
