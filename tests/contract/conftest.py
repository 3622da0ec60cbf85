"""Fixtures with every kind of store, opened by URL. The suites here must pass for all of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import Stores


@pytest.fixture(params=["memory", "sqlite"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/portico.db"
    opened = await open_stores(url)
    yield opened
    await opened.close()
