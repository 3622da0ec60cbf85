"""Sets gRPC's health status from the store: NOT_SERVING while it refuses writes, then SERVING again."""

import asyncio
import logging
from collections.abc import Sequence

from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer

from portico.core.runs.run_engine import RunEngine
from portico.core.stores.ports.store_health import StoreHealth
from portico.telemetry.log.retry_log import RetryLog
from portico.telemetry.metrics import counters

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class StoreHealthWatch:
    """Updates the health status of all services, from `start` to `stop`."""

    def __init__(
        self, health: HealthServicer, services: Sequence[str], engine: RunEngine, store: StoreHealth
    ) -> None:
        self._health = health
        self._services = services
        self._engine = engine
        self._store = store
        self._failing = RetryLog()
        self._task: asyncio.Task[None] | None = None
        self._said = NOT_SERVING
        counters.gauge(
            "portico.store.writable",
            "",
            "1 while the store accepts writes, 0 while it refuses them.",
            lambda: [(float(self._said == SERVING), {})],
        )

    async def start(self) -> None:
        await self._say(SERVING)
        self._task = asyncio.create_task(self._watch(), name="store-watch")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                # While runs produce events the engine retries their writes, so no probe is needed.
                failure = self._engine.store_failure or await self._store.look()
            except Exception:
                if self._failing.due():
                    log.exception("the store can't be probed")
                continue
            wanted = SERVING if failure is None else NOT_SERVING
            if wanted != self._said:
                if failure is not None:
                    log.error("not ready: the store refuses writes: %s", failure)
                else:
                    log.warning("ready again: the store accepts writes")
                await self._say(wanted)

    async def _say(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        self._said = status
        for service in self._services:
            await self._health.set(service, status)
