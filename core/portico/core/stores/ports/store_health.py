"""Whether a store takes writes: what its writers find, and, after a failure, what a small write finds."""

from collections.abc import Awaitable, Callable

from portico.core.errors import StoreUnavailable


class StoreHealth:
    """Of one database, or of a store that never refuses."""

    def __init__(self) -> None:
        self.failure: StoreUnavailable | None = None  # of the last write, if it was refused
        self.probe: Callable[[], Awaitable[None]] | None = None  # writes a little; raises StoreUnavailable

    def refused(self, failure: StoreUnavailable) -> None:
        """Somebody's write was refused."""
        self.failure = failure

    def took(self) -> None:
        """Somebody's write is in the store."""
        self.failure = None

    async def look(self) -> StoreUnavailable | None:
        """Why the store refuses writes now; costs nothing while it does not."""
        if self.failure is not None and self.probe is not None:
            try:
                await self.probe()
            except StoreUnavailable as failure:
                self.failure = failure
            else:
                self.failure = None
        return self.failure
