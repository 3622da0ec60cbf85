"""The reference and Portico, each serving the same scripts."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.deployment import Deployment, free_port

HERE = Path(__file__).parent
PEER_PYTHON = HERE.parents[1] / ".peer/bin/python"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "peer: needs AgentScope Runtime in .peer (`make peer`)")


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """AgentScope Runtime."""
    if not PEER_PYTHON.exists():
        pytest.fail(f"{PEER_PYTHON} is missing: run `make peer`")
    app, port = HERE / "app.py", free_port()
    command = [str(PEER_PYTHON), str(app), str(port)]
    yield from _client(Deployment(app, tmp_path_factory.mktemp("peer"), command=command, ports=(port, 0)))


@pytest.fixture(scope="session")
def portico(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Portico."""
    yield from _client(Deployment(HERE / "portico_agent.py", tmp_path_factory.mktemp("portico")))


def _client(deployment: Deployment) -> Iterator[httpx.Client]:
    try:
        with httpx.Client(base_url=deployment.url, timeout=30) as client:
            yield client
    finally:
        deployment.stop()
