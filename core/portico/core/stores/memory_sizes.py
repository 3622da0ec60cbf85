"""How much is stored in memory."""

from collections.abc import Callable, Sequence
from typing import Protocol

from portico.core.stores.sizes import Whose


class Sized(Protocol):
    """One of the stores."""

    def stored_bytes(self, has: Callable[[str], bool]) -> int:
        """Of the owners that it is true of."""
        ...


class MemorySizeStore:
    def __init__(self, stores: Sequence[Sized]) -> None:
        self._stores = stores

    async def stored_bytes(self, whose: Whose) -> int:
        return sum(store.stored_bytes(whose.has) for store in self._stores)
