"""Ephemeral runs: gone soon after their end, with all that was kept for them alone."""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import NamedTuple

from portico.core.errors import SessionNotFound, StoreUnavailable
from portico.core.runs.removal import Removal
from portico.core.stores.ports.stores import Stores
from portico.telemetry.rarely import Rarely

log = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0  # until what failed is tried again


class _Due(NamedTuple):
    at: float  # of the loop's clock
    run_id: str
    session: tuple[str, str] | None  # removed too


class Ephemerals:
    """Removes runs a while after their end. Owned by the engine."""

    def __init__(self, stores: Stores, removal: Removal, kept_seconds: float) -> None:
        self._stores = stores
        self._removal = removal
        self._kept_seconds = kept_seconds
        self._failing = Rarely()
        self._due: deque[_Due] = deque()  # all are kept equally long: in time's order, but for what failed
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take over what an earlier process has left: its readers may be on their way back."""
        for record in await self._stores.runs.left_over():
            self.ended(
                record.run_id,
                (record.user_id, record.session_id) if record.ephemeral == "session" else None,
            )

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def ended(self, run_id: str, session: tuple[str, str] | None) -> None:
        """Its last readers have so long from now on."""
        at = asyncio.get_running_loop().time() + self._kept_seconds
        self._due.append(_Due(at, run_id, session))
        self._work()

    def _work(self) -> None:
        if self._due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._remove_all(), name="ephemeral runs")

    async def _remove_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due:
            due = self._due[0]
            await asyncio.sleep(max(due.at - loop.time(), 0))
            try:
                await self._remove(due)
            except StoreUnavailable as error:
                if self._failing.due():
                    log.warning("an ephemeral run can't be removed yet: %s", error)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            except Exception:
                # A sandbox that can't be ended, or a defect of ours: it holds up no other run.
                if self._failing.due():
                    log.exception("the ephemeral run %s can't be removed yet", due.run_id)
                self._due.append(due._replace(at=loop.time() + AGAIN_SECONDS))
            self._due.popleft()

    async def _remove(self, due: _Due) -> None:
        if due.session is not None:
            user_id, session_id = due.session
            with suppress(SessionNotFound):
                await self._removal.session(user_id, session_id)
            await self._stores.states.delete(user_id, session_id, None)
            await self._stores.memories.delete(user_id, session_id, None)
        await self._removal.runs([due.run_id])
