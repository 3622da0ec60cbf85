"""Continuation: chooses the session of a run that continues another, its own session or a copy."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from portico.core.errors import RunNotFound
from portico.core.log.live_run import LiveRun
from portico.core.runs.session_queue import SessionQueue
from portico.core.stores.ports.stores import Stores
from portico.model.ids import new_id


class Continuations:
    """Chooses sessions for continuing runs. Owned by the engine."""

    def __init__(self, stores: Stores, lanes: SessionQueue, live: Callable[[str], LiveRun | None]) -> None:
        self._stores = stores
        self._lanes = lanes
        self._live = live
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def reserve_session(
        self, run_id: str, *, apart: bool, before: str = ""
    ) -> AsyncIterator[tuple[str, str, bool]]:
        """Choose the session for a run that continues this one; a lock on the run is held in the context.

        The session is the run's own if no later run used it and `apart` is false. Otherwise it is a copy that
        ends with the run, or before the message `before`. Launch the new run within the context: the next
        continuation of the same run is placed after it.

        Yields:
            The owner, the session id, and whether the session is a copy made for this call.

        Raises:
            RunNotFound: The run does not exist or is ephemeral.
            SessionNotFound: The session was deleted.
            MessageNotFound: The session has no message `before`.
        """
        turn = self._turns.setdefault(run_id, asyncio.Lock())
        async with turn:
            user_id, session_id = await self._session_of(run_id)
            fork, copy = self._stores.sessions.fork, new_id("session_")
            apart = apart or self._overtaken(user_id, session_id, run_id)
            if apart and not before:
                # A copy that ends with the run needs the run's remaining output.
                await self._settled(run_id)
            copied = await fork(user_id, session_id, run_id, copy, always=apart, before=before)
            if not copied and self._overtaken(user_id, session_id, run_id):
                # Another run was accepted in the session meanwhile.
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
        """Return when the run has ended or is paused."""
        run = self._live(run_id)
        if run is None:
            return
        changed = asyncio.Event()
        run.subscribe(changed.set)
        try:
            while not run.is_terminal_durable and run.paused_at is None:
                changed.clear()
                await changed.wait()
        finally:
            run.unsubscribe(changed.set)

    def _overtaken(self, user_id: str, session_id: str, run_id: str) -> bool:
        return self._lanes.has_other_run((user_id, session_id), run_id)
