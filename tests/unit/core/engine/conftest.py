"""Engines over stores in memory."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from portico.agent import AgentApp
from portico.core.convert.events import ProtoEncoder
from portico.core.engine.local import THREADS, LocalHost
from portico.core.engine.runs import Limits, RunEngine
from portico.core.stores.base import Stores
from portico.core.stores.open import open_stores


@pytest.fixture
async def stores() -> AsyncIterator[Stores]:
    stores = await open_stores("memory://")
    yield stores
    await stores.close()


@pytest.fixture
async def engine_of(stores: Stores) -> AsyncIterator[Callable[..., Any]]:
    """Start engines of an agent over the same stores, one after the other."""
    started: list[RunEngine] = []

    async def start(app: AgentApp, *, threads: int = THREADS, **limits: Any) -> RunEngine:
        engine = RunEngine(LocalHost([app], threads=threads), stores, ProtoEncoder(), Limits(**limits))
        started.append(engine)
        await engine.start()
        return engine

    yield start
    for engine in started:
        await engine.stop()
