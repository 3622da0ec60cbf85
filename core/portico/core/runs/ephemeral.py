"""Ephemeral runs: deleted soon after their end, with everything stored for them alone."""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import NamedTuple

from portico.core.errors import SessionNotFound, StoreUnavailable
from portico.core.runs.removal import Removal
from portico.core.stores.ports.stores import Stores
from portico.telemetry.log.retry_log import RetryLog

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0  # delay before a failed deletion is retried


class _Due(NamedTuple):
    at: float  # on the loop's clock
    run_id: str
    session: tuple[str, str] | None  # deleted too


class EphemeralCleaner:
    """Deletes ephemeral runs some time after their end. Owned by the engine."""

    def __init__(self, stores: Stores, removal: Removal, kept_seconds: float) -> None:
        self._stores = stores
        self._removal = removal
        self._kept_seconds = kept_seconds
        self._failing = RetryLog()
        self._due: deque[_Due] = deque()  # in order of time, except retries: all are kept equally long
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Schedule the runs of an earlier process, with full time: their readers may be reconnecting."""
        for record in await self._stores.runs.ephemeral_leftovers():
            self.schedule(
                record.run_id,
                (record.user_id, record.session_id) if record.ephemeral == "session" else None,
            )

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def schedule(self, run_id: str, session: tuple[str, str] | None) -> None:
        """Schedule the deletion of an ended run.

        Args:
            run_id: The run.
            session: The session to delete with it, if it is ephemeral too.
        """
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
                    log.warning("deleting an ephemeral run failed, it is retried: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except Exception:
                # A sandbox that cannot be ended, or a defect: it must not delay other runs.
                if self._failing.due():
                    log.exception("deleting the ephemeral run %s failed, it is retried", due.run_id)
                self._due.append(due._replace(at=loop.time() + RETRY_SECONDS))
            self._due.popleft()

    async def _remove(self, due: _Due) -> None:
        if due.session is not None:
            user_id, session_id = due.session
            with suppress(SessionNotFound):
                await self._removal.delete_session(user_id, session_id)
            await self._stores.states.delete(user_id, session_id, None)
            await self._stores.memories.delete(user_id, session_id, None)
        await self._removal.delete_runs([due.run_id])
