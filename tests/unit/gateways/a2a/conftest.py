"""A core and gateways that a module's tests share, and with them its loop."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.a2a_gateways import Gateway, running_core, running_gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def core_directory(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """Where a core listens that a module's tests share, and with it its loop."""
    directory = tmp_path_factory.mktemp("core")
    async with running_core(directory):
        yield directory


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(core_directory: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(core_directory, max_body_bytes=100_000) as gateway:
        yield gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replica(core_directory: Path) -> AsyncIterator[Gateway]:
    """Another gateway before the same core."""
    async with running_gateway(core_directory) as gateway:
        yield gateway
