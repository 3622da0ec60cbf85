"""Fixtures: run engines over stores in memory."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support.workers import beside

from portico.agent import AgentApp
from portico.core.convert.events import ProtoEncoder
from portico.core.hosts.base.agent_host import AgentHost
from portico.core.hosts.base.error_disclosure import ErrorDisclosure
from portico.core.hosts.local.local_host import THREADS, LocalHost
from portico.core.hosts.worker.worker_host import WorkerHost
from portico.core.runs.run_engine import EngineLimits, RunEngine
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import Stores

WORDS = ErrorDisclosure("callers")


@pytest.fixture
async def stores() -> AsyncIterator[Stores]:
    stores = await open_stores("memory://")
    yield stores
    await stores.close()


@pytest.fixture(params=["local", "workers"])
def host_of(request: pytest.FixtureRequest) -> Callable[..., AgentHost]:
    """Makes a host of agents: each test of the engine runs with each kind of host."""
    if request.param == "local":
        return lambda apps, threads=THREADS: LocalHost(apps, WORDS, threads=threads)
    return lambda apps, threads=THREADS: WorkerHost(apps, beside(threads), WORDS)


@pytest.fixture
async def engine_of(host_of: Callable[..., AgentHost], stores: Stores) -> AsyncIterator[Callable[..., Any]]:
    """Starts engines of an agent over the same stores, one after the other."""
    started: list[RunEngine] = []

    async def start(app: AgentApp, *, threads: int = THREADS, **limits: Any) -> RunEngine:
        host = host_of([app], threads=threads)
        engine = RunEngine(host, stores, ProtoEncoder(), EngineLimits(**limits), words=WORDS)
        started.append(engine)
        await engine.start()
        return engine

    yield start
    for engine in started:
        await engine.stop()
