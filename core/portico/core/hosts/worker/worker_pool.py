"""Worker pool: keeps the workers of one agent running."""

import asyncio
import logging
import time

from portico.agent import AgentApp, AgentError, Workers
from portico.core.hosts.base.agent_host import AgentStartFailed
from portico.core.hosts.base.error_disclosure import ErrorDisclosure
from portico.core.hosts.worker.worker_handle import WorkerHandle
from portico.core.hosts.worker.worker_process import StartProcess
from portico.telemetry.log.retry_log import RetryLog

log = logging.getLogger(__name__)

FIRST_DELAY = 0.1  # before the next worker starts if one ended early; doubled each time
LAST_DELAY = 2.0
STABLE_SECONDS = 5.0  # a worker that lives longer resets the delay


class WorkerPool:
    """Keeps the agent's number of workers; replaces each one that ends. Owned by the host."""

    def __init__(self, app: AgentApp, limits: Workers, launch: StartProcess, words: ErrorDisclosure) -> None:
        self._words = words
        self._app = app
        self._limits = limits
        self._launch = launch
        self._ending, self._failing = RetryLog(), RetryLog()
        self._workers: set[WorkerHandle] = set()  # includes those that only finish their runs
        self._keepers: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._next = _next_start_future()

    async def start(self) -> None:
        """Return when all workers are ready. Raises AgentStartFailed if one cannot be started."""
        starting = [asyncio.create_task(self._start()) for _ in range(self._limits.count)]
        await asyncio.wait(starting)
        for task in starting:
            if (error := task.exception()) is not None:
                await self.stop()
                raise AgentStartFailed(f"agent {self._app.name!r}: {error}")
        self._keepers = [asyncio.create_task(self._keep(task.result())) for task in starting]

    async def stop(self) -> None:
        """Shut all workers down."""
        ending = [*self._keepers, *self._leaving]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        self._next.cancel()

    async def acquire(self) -> WorkerHandle:
        """Return the worker with the least load, as soon as one is ready.

        Raises:
            AgentError: The next worker could not be started.
        """
        while not (ready := [worker for worker in self._workers if worker.ready]):
            await asyncio.shield(self._next)
        return min(ready, key=lambda worker: worker.load)

    async def _keep(self, worker: WorkerHandle) -> None:
        """Keep one worker running: start a new one whenever the present one ends or retires."""
        delay = 0.0
        while True:
            began = time.monotonic()
            await asyncio.wait({worker.ended, worker.spent}, return_when=asyncio.FIRST_COMPLETED)
            if worker.ended.done():
                self._workers.discard(worker)
                if self._ending.due():
                    log.warning("a process of agent %r %s", self._app.name, worker.fate)
                delay = 0.0 if time.monotonic() - began > STABLE_SECONDS else next_delay(delay)
            else:
                leaving = asyncio.create_task(self._leave(worker))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
            while True:
                await asyncio.sleep(delay)
                try:
                    worker = await self._start()
                    break
                except AgentError:
                    delay = next_delay(delay)
                    if self._failing.due():
                        log.warning(
                            "a worker of agent %r failed to start; next try in %g s", self._app.name, delay
                        )

    async def _leave(self, worker: WorkerHandle) -> None:
        await worker.stop(idle=True)
        self._workers.discard(worker)

    async def _start(self) -> WorkerHandle:
        hope = self._next
        try:
            worker = await WorkerHandle.started(self._app, self._limits, self._launch, self._words)
        except AgentError as error:
            if not hope.done():
                self._next = _next_start_future()
                hope.set_exception(error)
            raise
        self._workers.add(worker)
        if not hope.done():
            self._next = _next_start_future()
            hope.set_result(None)
        return worker


def next_delay(delay: float) -> float:
    return min(max(delay * 2, FIRST_DELAY), LAST_DELAY)


def _next_start_future() -> "asyncio.Future[None]":
    """A future for the result of the next start."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    # Retrieve the exception, because there may be no waiter.
    future.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return future
