"""A core and gateways shared by the tests of a module, which therefore share an event loop."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.a2a_gateways import Gateway, running_core, running_gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def core_directory(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """The directory of a core shared by the tests of a module."""
    directory = tmp_path_factory.mktemp("core")
    async with running_core(directory):
        yield directory


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(core_directory: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(core_directory, max_body_bytes=100_000) as gateway:
        yield gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replica(core_directory: Path) -> AsyncIterator[Gateway]:
    """A second gateway on the same core."""
    async with running_gateway(core_directory) as gateway:
        yield gateway
