"""Runs that wait for input that can't come: nothing of them is stored, so no call can continue them."""

import asyncio
import logging
from collections.abc import Mapping

from portico.client import PorticoError
from portico.gateways.http.core_connection import Core

log = logging.getLogger(__name__)


class Stranded:
    """Cancels such runs behind the answer that told of their question. Owns the tasks that do it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._cancelling: set[asyncio.Task[None]] = set()

    def cancel(self, run_id: str, metadata: Mapping[str, str]) -> None:
        """For the caller with this metadata. Returns at once; a core that can't is noted in the log."""
        cancelling = asyncio.create_task(self._cancel(run_id, metadata))
        self._cancelling.add(cancelling)
        cancelling.add_done_callback(self._cancelling.discard)

    async def _cancel(self, run_id: str, metadata: Mapping[str, str]) -> None:
        try:
            await self._core.client.with_options(metadata=metadata).runs.cancel(run_id)
        except PorticoError as error:
            log.info("run %s waits for input that can't come: %s", run_id, error)
