"""Takes things out of the stores, with all that hangs on them."""

from collections.abc import Callable, Collection, Sequence

from portico.core.runs.idempotency import RecentKeys
from portico.core.sandboxes.core_sandboxes import Sandboxes
from portico.core.stores.ports.stores import Stores

BATCH = 100  # of what one transaction removes, which commits wait for


class Removal:
    """What was removed is known nowhere any more. Owned by the engine."""

    def __init__(self, stores: Stores, sandboxes: Sandboxes, keys: RecentKeys) -> None:
        self._stores = stores
        self._sandboxes = sandboxes
        self._keys = keys
        self._others: list[Callable[[Collection[str]], None]] = []

    def tell(self, forget: Callable[[Collection[str]], None]) -> None:
        """Call it with the ids of runs that are removed, for who remembers runs too."""
        self._others.append(forget)

    async def runs(self, run_ids: Sequence[str]) -> tuple[int, int]:
        """Runs that have ended, at most BATCH. How many there were, and how many push configs they had."""
        configs = await self._stores.pushes.delete_all(run_ids)
        await self._stores.results.delete_all(run_ids)
        removed = await self._stores.runs.delete_all(run_ids)
        gone = frozenset(run_ids)
        self._keys.forget(gone)
        for forget in self._others:
            forget(gone)
        return removed, configs

    async def session(self, user_id: str, session_id: str) -> None:
        """A session with its messages, and its sandboxes. Raises SessionNotFound."""
        try:
            await self._stores.sessions.delete(user_id, session_id)
        finally:
            # A session that nobody has said anything in may have one all the same.
            await self._sandboxes.release(user_id, session_id)

    async def idle_session(self, user_id: str, session_id: str, since: float) -> None:
        """The same for one that was not used since then. Raises SessionNotFound, also if it was."""
        await self._stores.sessions.delete(user_id, session_id, idle_since=since)
        await self._sandboxes.release(user_id, session_id)
