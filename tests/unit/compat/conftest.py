"""The services of the reference, in memory and in Redis."""

from collections.abc import Iterator

import pytest
from support.redis_server import redis_server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yields the URL of a Redis server."""
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(params=["in_memory", "redis"])
def backend(request: pytest.FixtureRequest) -> dict[str, str]:
    """Returns the arguments of a factory."""
    kind = str(request.param)
    return {
        "backend_type": kind,
        **({"redis_url": request.getfixturevalue("redis")} if kind == "redis" else {}),
    }
