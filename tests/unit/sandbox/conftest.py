"""A local backend."""

from collections.abc import AsyncIterator

import pytest

from portico.sandbox.local.backend import LocalBackend


@pytest.fixture
async def backend() -> AsyncIterator[LocalBackend]:
    async with LocalBackend() as opened:
        yield opened
