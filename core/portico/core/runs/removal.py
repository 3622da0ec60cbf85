"""Deletion of runs and sessions, with everything that depends on them."""

from collections.abc import Callable, Collection, Sequence

from portico.core.runs.idempotency import IdempotencyIndex
from portico.core.sandboxes.core_sandboxes import CoreSandboxes
from portico.core.stores.ports.stores import Stores

BATCH = 100  # most items deleted in one transaction, because commits wait for it


class Removal:
    """Deletes runs and sessions from the stores and from memory. Owned by the engine."""

    def __init__(self, stores: Stores, sandboxes: CoreSandboxes, keys: IdempotencyIndex) -> None:
        self._stores = stores
        self._sandboxes = sandboxes
        self._keys = keys
        self._others: list[Callable[[Collection[str]], None]] = []

    def add_deletion_listener(self, forget: Callable[[Collection[str]], None]) -> None:
        """Register a callback that gets the ids of deleted runs, for parts that cache runs."""
        self._others.append(forget)

    async def delete_runs(self, run_ids: Sequence[str]) -> tuple[int, int]:
        """Delete ended runs, at most BATCH. Returns the numbers of runs and of their push configs."""
        configs = await self._stores.pushes.delete_all(run_ids)
        await self._stores.results.delete_all(run_ids)
        removed = await self._stores.runs.delete_all(run_ids)
        gone = frozenset(run_ids)
        self._keys.forget(gone)
        for forget in self._others:
            forget(gone)
        return removed, configs

    async def delete_session(self, user_id: str, session_id: str) -> None:
        """Delete a session with its messages and sandboxes. Raises SessionNotFound."""
        try:
            await self._stores.sessions.delete(user_id, session_id)
        finally:
            # A session without messages is not stored, but may have a sandbox.
            await self._sandboxes.release(user_id, session_id)

    async def delete_idle_session(self, user_id: str, session_id: str, since: float) -> None:
        """As `session`, if it was not used since a date. Raises SessionNotFound, also if it was used."""
        await self._stores.sessions.delete(user_id, session_id, idle_since=since)
        await self._sandboxes.release(user_id, session_id)
