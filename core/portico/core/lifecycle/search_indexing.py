"""Background indexing: makes messages searchable, so that few searches have to do it.

It works in short steps until no message is pending, and rests between them: as long as the step took, and
much longer while runs are started.
"""

import asyncio
import logging
import time

from portico.core.errors import StoreUnavailable
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.ports.stores import SessionStore
from portico.telemetry.log.retry_log import RetryLog

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0  # pause when no message is pending
STEP_MESSAGES = 50  # messages per step
BUSY_REST_FACTOR = 20.0  # rest while runs are started, as a multiple of the step's duration


class SearchIndexer:
    """Indexes messages from `start` to `stop`."""

    def __init__(self, engine: RunEngine, sessions: SessionStore) -> None:
        self._engine = engine
        self._sessions = sessions
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the indexing task."""
        self._task = asyncio.create_task(self._work(), name="index")

    async def stop(self) -> None:
        """Cancel the present step; the next start continues."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def index_pending(self) -> None:
        """Index until the last step finds no further message pending. Raises StoreUnavailable."""
        while True:
            launched = self._engine.admitted_count
            began = time.monotonic()
            if await self._sessions.index_pending(STEP_MESSAGES) < STEP_MESSAGES:
                return
            took = time.monotonic() - began
            await asyncio.sleep(took)
            if self._engine.admitted_count != launched:
                await asyncio.sleep(took * BUSY_REST_FACTOR)

    async def _work(self) -> None:
        failing = RetryLog()
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            try:
                await self.index_pending()
            except StoreUnavailable:
                pass  # health reports it; searches index the messages they need
            except Exception:
                if failing.due():
                    log.exception("indexing messages failed; searches index the messages they need")
