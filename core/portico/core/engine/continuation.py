"""Where a run belongs that continues another: in its session, or beside it in a copy."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from portico.core.engine.lanes import SessionLanes
from portico.core.errors import RunNotFound
from portico.core.log.live_run import LiveRun
from portico.core.stores.ports.stores import Stores
from portico.model.ids import new_id


class Continuations:
    """Places runs behind others. Owned by the engine."""

    def __init__(self, stores: Stores, lanes: SessionLanes, live: Callable[[str], LiveRun | None]) -> None:
        self._stores = stores
        self._lanes = lanes
        self._live = live
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def after(
        self, run_id: str, *, apart: bool, before: str = ""
    ) -> AsyncIterator[tuple[str, str, bool]]:
        """The user and session for a run that continues this one, and whether that session was made for it.

        The session is the run's own if nothing came after it there, unless `apart`; otherwise a copy
        that ends with the run, or before the message of this id. The next run that continues it is placed
        when this one is launched, that is, when the context is left. Raises RunNotFound, SessionNotFound
        when the session was deleted, MessageNotFound.
        """
        turn = self._turns.setdefault(run_id, asyncio.Lock())
        async with turn:
            user_id, session_id = await self._session_of(run_id)
            fork, copy = self._stores.sessions.fork, new_id("session_")
            apart = apart or self._overtaken(user_id, session_id, run_id)
            if apart and not before:
                # A copy that ends with the run needs what the run has yet to say.
                await self._settled(run_id)
            copied = await fork(user_id, session_id, run_id, copy, always=apart, before=before)
            if not copied and self._overtaken(user_id, session_id, run_id):
                # Another run came while the store was asked.
                await self._settled(run_id)
                copied = await fork(user_id, session_id, run_id, copy, always=True)
            yield user_id, copy if copied else session_id, copied

    async def _session_of(self, run_id: str) -> tuple[str, str]:
        run = self._live(run_id)
        if run is not None:
            if run.start.ephemeral:
                raise RunNotFound(run_id)
            return run.session
        record = await self._stores.runs.get(run_id)
        if record.ephemeral:
            raise RunNotFound(run_id)
        return record.user_id, record.session_id

    async def _settled(self, run_id: str) -> None:
        """Return when the run has ended, or waits for somebody."""
        run = self._live(run_id)
        if run is None:
            return
        changed = asyncio.Event()
        run.subscribe(changed.set)
        try:
            while not run.ended and run.paused_at is None:
                changed.clear()
                await changed.wait()
        finally:
            run.unsubscribe(changed.set)

    def _overtaken(self, user_id: str, session_id: str, run_id: str) -> bool:
        return self._lanes.others((user_id, session_id), run_id)
