"""Real frameworks with a scripted model. They are in a separate venv: `make test-frameworks`."""

import importlib.util
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.deployment import Deployment
from support.framework_script import SCRIPT
from support.model import ScriptedModel

from portico.client import Client

AGENTS = Path(__file__).parent / "agents"

if importlib.util.find_spec("langgraph") is None:
    # The ordinary venv has no frameworks. In the frameworks' venv a missing one fails.
    collect_ignore_glob = ["*"]


@pytest.fixture(scope="session")
def model() -> Iterator[ScriptedModel]:
    """Shared by all tests: each must search its requests only for words of its own."""
    started = ScriptedModel(SCRIPT)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def deployment(model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Serves every agent for all tests, which must leave it intact."""
    directory = tmp_path_factory.mktemp("everybody")
    env = {"SCRIPTED_MODEL_URL": model.url}
    started = Deployment(AGENTS / "everybody.py", directory, env=env)
    yield started
    started.stop()


@pytest.fixture
async def client(deployment: Deployment) -> AsyncIterator[Client]:
    async with Client(deployment.target) as client:
        yield client
