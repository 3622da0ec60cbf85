"""Worker host: executes agents in worker processes; and the host that joins several hosts."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from portico.agent import AgentApp, AgentError, Context, Workers
from portico.core.errors import EndpointFailed, EndpointIsStreaming, EndpointNotFound
from portico.core.hosts.base.agent_host import AgentHost, RunSink
from portico.core.hosts.base.agent_registry import AgentRegistry
from portico.core.hosts.base.error_disclosure import ErrorDisclosure
from portico.core.hosts.local.local_host import LocalHost
from portico.core.hosts.worker.orphan_processes import kill_orphans
from portico.core.hosts.worker.worker_handle import WorkerHandle
from portico.core.hosts.worker.worker_pool import WorkerPool
from portico.core.hosts.worker.worker_process import StartProcess


class WorkerHost(AgentRegistry):
    """Executes all its agents in workers; the first one is the default."""

    def __init__(
        self, apps: Sequence[AgentApp], launch: StartProcess, words: ErrorDisclosure | None = None
    ) -> None:
        super().__init__(apps)
        self._words = words or ErrorDisclosure()
        self._launch = launch
        self._pools: dict[str, WorkerPool] = {}

    async def start(self) -> None:
        await asyncio.to_thread(kill_orphans)
        for app in self.agents:
            self._pools[app.name] = WorkerPool(app, app.workers or Workers(), self._launch, self._words)
        results = await asyncio.gather(
            *(pool.start() for pool in self._pools.values()), return_exceptions=True
        )
        for error in results:
            if error is not None:
                await self.stop()
                raise error

    async def stop(self) -> None:
        await asyncio.gather(*(pool.stop() for pool in self._pools.values()))

    async def execute(self, app: AgentApp, context: Context, sink: RunSink) -> None:
        worker = await self._pools[app.name].acquire()
        await worker.execute(context, sink)

    async def call_endpoint(self, app: AgentApp, path: str, body: Any) -> Any:
        if path not in app.endpoints:
            raise EndpointNotFound(path)
        if app.endpoints[path].streaming:
            raise EndpointIsStreaming(path)
        return await (await self._worker(app)).call_endpoint(path, body)

    async def stream_endpoint(self, app: AgentApp, path: str, body: Any) -> AsyncGenerator[Any, None]:
        if path not in app.endpoints:
            raise EndpointNotFound(path)
        worker = await self._worker(app)
        async with aclosing(worker.stream_endpoint(path, body)) as items:
            async for item in items:
                yield item

    async def _worker(self, app: AgentApp) -> WorkerHandle:
        try:
            return await self._pools[app.name].acquire()
        except AgentError as error:
            raise EndpointFailed(error.message, error_type=type(error).__name__) from None


class CompositeHost(AgentRegistry):
    """Joins the agents of several hosts; the first one is the default."""

    def __init__(self, apps: Sequence[AgentApp], hosts: Sequence[AgentHost]) -> None:
        super().__init__(apps)
        self._hosts = hosts
        self._host_of: Mapping[str, AgentHost] = {app.name: host for host in hosts for app in host.agents}

    async def start(self) -> None:
        for host in self._hosts:
            await host.start()

    async def stop(self) -> None:
        for host in self._hosts:
            await host.stop()

    async def execute(self, app: AgentApp, context: Context, sink: RunSink) -> None:
        await self._host_of[app.name].execute(app, context, sink)

    async def call_endpoint(self, app: AgentApp, path: str, body: Any) -> Any:
        return await self._host_of[app.name].call_endpoint(app, path, body)

    def stream_endpoint(self, app: AgentApp, path: str, body: Any) -> AsyncIterator[Any]:
        return self._host_of[app.name].stream_endpoint(app, path, body)


def make_host(apps: Sequence[AgentApp], launch: StartProcess, words: ErrorDisclosure) -> AgentHost:
    """Make the host for the agents, each in its own process if it asks for that.

    Raises:
        ValueError: An agent cannot be served.
    """
    apart = [app for app in apps if app.workers is not None]
    if not apart:
        return LocalHost(apps, words)
    for app in apart:
        if not app.source:
            raise ValueError(
                f"agent {app.name!r} has isolation='process', but no file from which a worker can load it"
            )
    here = [app for app in apps if app.workers is None]
    hosts: list[AgentHost] = [WorkerHost(apart, launch, words)]
    if here:
        hosts.append(LocalHost(here, words))
    return CompositeHost(apps, hosts)
