"""Erasure of a user: deletes everything that stores, sandboxes and this process have of one owner."""

from contextlib import suppress
from dataclasses import dataclass

from portico.core.errors import SessionNotFound
from portico.core.runs.removal import BATCH
from portico.core.runs.run_engine import RunEngine
from portico.core.sandboxes.core_sandboxes import CoreSandboxes
from portico.core.stores.ports.stores import Stores


@dataclass(slots=True)
class ErasedCounts:
    """Numbers of deleted items."""

    runs: int = 0
    sessions: int = 0
    messages: int = 0
    states: int = 0
    memories: int = 0
    push_configs: int = 0
    sandboxes: int = 0
    snapshots: int = 0


class UserEraser:
    """Deletes a user's data in one core. If it fails half-way, the next call completes it."""

    def __init__(self, engine: RunEngine, stores: Stores, sandboxes: CoreSandboxes) -> None:
        self._engine = engine
        self._stores = stores
        self._sandboxes = sandboxes

    async def delete_everything(self, owner: str) -> ErasedCounts:
        """Delete an owner's data; return when none of it can be read. Raises StoreUnavailable, Draining."""
        told = ErasedCounts()
        # Live runs first, because they still write.
        await self._engine.cancel_all(owner)
        told.sandboxes, told.snapshots = await self._sandboxes.delete_user(owner)
        await self._runs(owner, told)
        # States before sessions: deleting a session deletes its states without counting them.
        told.states = await self._stores.states.delete(owner, None, None)
        await self._sessions(owner, told)
        told.memories = await self._stores.memories.delete(owner, None, None)
        return told

    async def erase_from_files(self) -> None:
        """Return when no file of the store contains removed data. Raises StoreUnavailable."""
        await self._stores.erase()

    async def _runs(self, owner: str, told: ErasedCounts) -> None:
        while True:
            live = self._engine.live_of(owner)  # runs that began meanwhile
            found = await self._stores.runs.of_user(owner, BATCH + len(live))
            ended = [run_id for run_id in found if run_id not in live][:BATCH]
            if not ended:
                return
            runs, configs = await self._engine.removal.delete_runs(ended)
            told.runs += runs
            told.push_configs += configs

    async def _sessions(self, owner: str, told: ErasedCounts) -> None:
        while found := await self._stores.sessions.list(owner, None, BATCH):
            for session in found:
                with suppress(SessionNotFound):
                    await self._engine.removal.delete_session(owner, session.session_id)
                    told.sessions += 1
                    told.messages += session.message_count
