"""Fixtures: real processes, and clients to them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from support.deployment import SCRIPTED, Deployment

from portico.client import Client


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment that tests share; they must leave it intact."""
    started = Deployment(SCRIPTED, tmp_path_factory.mktemp("shared"))
    yield started
    started.stop()


@pytest.fixture
def own_deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A deployment that a test may break."""
    started = Deployment(SCRIPTED, tmp_path)
    yield started
    started.stop()


@pytest.fixture
async def client(deployment: Deployment) -> AsyncIterator[Client]:
    async with Client(deployment.target) as client:
        yield client


@pytest.fixture
async def http(deployment: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=deployment.url, timeout=60) as http:
        yield http
