"""The metrics of core and gateways are those in the table of docs/operations.md."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeter
from support.a2a_gateways import scripted_agents
from support.identity import guarded_core
from support.serving import running_site, settings_in

from portico.gateways.gateway_registry import GATEWAYS
from portico.gateways.http.settings import HttpSettings
from portico.telemetry.metrics import meters

DOCS = Path(__file__).parents[3] / "docs" / "operations.md"
_NAME = re.compile(r"`((?:portico|rpc|http)\.[a-z_.]+)`")


class Registering(NoOpMeter):
    """A meter that records the names of its instruments."""

    def __init__(self) -> None:
        super().__init__("portico")
        self.names: set[str] = set()

    def create_observable_counter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self.names.add(name)
        return super().create_observable_counter(name, *args, **kwargs)

    def create_observable_gauge(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self.names.add(name)
        return super().create_observable_gauge(name, *args, **kwargs)

    def create_histogram(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self.names.add(name)
        return super().create_histogram(name, *args, **kwargs)


@pytest.fixture
def registered() -> Iterator[set[str]]:
    """Names of all metrics that are created in the test."""
    meter = Registering()
    meters.use(meter)
    yield meter.names
    meters.use(None)


def documented() -> set[str]:
    """Names in the table's first column."""
    _, _, rest = DOCS.read_text(encoding="utf-8").partition("| metric | labels |")
    table = rest.partition("\n\n")[0]
    return {
        name for row in table.splitlines() for name in _NAME.findall(row.split("|")[1] if "|" in row else "")
    }


async def test_the_documented_metrics_are_those_that_there_are(registered: set[str], tmp_path: Path) -> None:
    async with guarded_core(scripted_agents(), tmp_path, store=f"sqlite:///{tmp_path}/portico.db") as core:
        gateways = [kind.factory()(kind.settings()(**settings_in(tmp_path))) for kind in GATEWAYS.values()]
        async with running_site(gateways, HttpSettings(**settings_in(tmp_path))):
            pass
        assert core.server.ports
    assert registered == documented()
