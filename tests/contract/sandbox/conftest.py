"""Every backend that can make a sandbox; the suites here hold for all of them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from portico.sandbox.backend import Backend
from portico.sandbox.box import Box
from portico.sandbox.local.backend import LocalBackend
from portico.sandbox.spec import Limits, Spec

MIB = 1 << 20


@pytest.fixture(params=["local"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    opened = LocalBackend()
    await opened.open()
    yield opened
    await asyncio.wait_for(opened.close(), 30)


@pytest.fixture
async def box(backend: Backend) -> Box:
    limits = Limits(memory_bytes=128 * MIB, processes=32, disk_bytes=16 * MIB, inodes=500, call_seconds=20)
    return await backend.create(Spec(limits=limits))
