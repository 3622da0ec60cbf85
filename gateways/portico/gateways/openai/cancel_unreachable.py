"""Cancels runs that wait for input that cannot arrive: they are not stored, so no call can continue them."""

import asyncio
import logging
from collections.abc import Mapping

from portico.client import PorticoError
from portico.gateways.http.core_connection import CoreConnection

log = logging.getLogger(__name__)


class UnreachableRunCanceller:
    """Cancels such runs in the background, after the answer with their input request. Owns the tasks."""

    def __init__(self, core: CoreConnection) -> None:
        self._core = core
        self._cancelling: set[asyncio.Task[None]] = set()

    def cancel(self, run_id: str, metadata: Mapping[str, str]) -> None:
        """Starts cancelling a run for the caller with this metadata, and returns at once. Errors of the core
        are logged.
        """
        cancelling = asyncio.create_task(self._cancel(run_id, metadata))
        self._cancelling.add(cancelling)
        cancelling.add_done_callback(self._cancelling.discard)

    async def _cancel(self, run_id: str, metadata: Mapping[str, str]) -> None:
        try:
            await self._core.client.with_options(metadata=metadata).runs.cancel(run_id)
        except PorticoError as error:
            log.info(
                "run %s waits for input that cannot arrive, and could not be cancelled: %s", run_id, error
            )
