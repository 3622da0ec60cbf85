"""Fixtures with every available sandbox backend. The suites here must pass for all of them."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from support.engines import need

from portico.sandbox.backend import Backend
from portico.sandbox.bubblewrap.backend import BubblewrapBackend
from portico.sandbox.docker.backend import DockerBackend
from portico.sandbox.docker.settings import DockerSettings
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.local.backend import LocalBackend
from portico.sandbox.spec import Limits, Spec

MIB = 1 << 20


def _docker(request: pytest.FixtureRequest) -> Backend:
    return DockerBackend(DockerSettings(url=request.getfixturevalue("docker_url")))


def _gvisor(request: pytest.FixtureRequest) -> Backend:
    need("gvisor")
    return DockerBackend(DockerSettings(url=request.getfixturevalue("docker_url"), runtime="runsc"))


def _bubblewrap(_request: pytest.FixtureRequest) -> Backend:
    need("bubblewrap")
    return BubblewrapBackend()


MAKERS: dict[str, Callable[[pytest.FixtureRequest], Backend]] = {
    "local": lambda _request: LocalBackend(),
    "docker": _docker,
    "gvisor": _gvisor,
    "bubblewrap": _bubblewrap,
}


@pytest.fixture(params=MAKERS)
def unopened(request: pytest.FixtureRequest) -> Backend:
    return MAKERS[request.param](request)


@pytest.fixture
async def backend(unopened: Backend) -> AsyncIterator[Backend]:
    await unopened.open()
    yield unopened
    await asyncio.wait_for(unopened.close(), 30)


@pytest.fixture
async def box(backend: Backend) -> SandboxHandle:
    limits = Limits(memory_bytes=128 * MIB, processes=32, disk_bytes=16 * MIB, inodes=500, call_seconds=20)
    return await backend.create(Spec(limits=limits))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run only the first and the last of some parameters on gVisor.

    A gVisor sandbox takes a second to create. These cases differ only in the messages to the supervisor,
    which is the same in every backend.
    """
    families: dict[tuple[str, str], list[pytest.Item]] = {}
    for item in items:
        parameters = getattr(item, "callspec", None)
        if parameters is not None and parameters.params.get("unopened") == "gvisor":
            families.setdefault((item.location[0], item.originalname), []).append(item)  # type: ignore[attr-defined]
    spared = {item for family in families.values() for item in family[1:-1]}
    config.hook.pytest_deselected(items=list(spared))
    items[:] = [item for item in items if item not in spared]
