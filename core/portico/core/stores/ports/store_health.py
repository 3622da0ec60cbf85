"""Tracks whether a store accepts writes: by its writers' results and, after a failure, by a test write."""

from collections.abc import Awaitable, Callable

from portico.core.errors import StoreUnavailable


class StoreHealth:
    """The write health of one store. A store in memory needs no probe, since its writes do not fail."""

    def __init__(self) -> None:
        self.failure: StoreUnavailable | None = None  # of the last write; None if it succeeded
        self.probe: Callable[[], Awaitable[None]] | None = None  # a test write; raises StoreUnavailable

    def record_failure(self, failure: StoreUnavailable) -> None:
        """Record that a write failed."""
        self.failure = failure

    async def look(self) -> StoreUnavailable | None:
        """Return why the store refuses writes now, or None. Writes only if the last write failed."""
        if self.failure is not None and self.probe is not None:
            try:
                await self.probe()
            except StoreUnavailable as failure:
                self.failure = failure
            else:
                self.failure = None
        return self.failure
