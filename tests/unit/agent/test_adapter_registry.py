"""Lookup of a framework's adapter."""

import sys
from collections.abc import Sequence
from typing import Any

import pytest

from portico.agent import AgentApp, Context, adapter_registry
from portico.core.hosts.local.local_host import LocalHost
from portico.frameworks import FrameworkMissing, OneWayTranslation, framework_names, load_framework


@pytest.fixture(autouse=True)
def fresh() -> None:
    load_framework.cache_clear()


def agent_of(framework: str) -> AgentApp:
    app = AgentApp("friday")

    @app.query(framework=framework)
    async def query(msgs: Any) -> str:
        return "hello"

    return app


def test_an_unknown_framework_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(
        FrameworkMissing, match=r"no adapter for the framework 'nix'; expected one of agentscope, "
    ):
        load_framework("nix")


def test_a_framework_that_is_not_installed_keeps_its_agent_from_starting_and_names_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("portico.frameworks.langgraph")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "langgraph.checkpoint.base", None)
    monkeypatch.setitem(sys.modules, "langgraph", None)
    with pytest.raises(ValueError, match=r"""agent 'friday'.*pip install "portico-runtime\[langgraph\]"""):
        LocalHost([agent_of("langgraph")])


class Echo(OneWayTranslation):
    async def begin(self) -> dict[str, Any]:
        return {"msgs": ["theirs"]}

    def say(self, item: Any) -> Sequence[object]:
        return (f"<{item[0]}>",)


class Adapter:
    parameters: Sequence[str] = ("msgs",)

    def open(self, context: Context) -> Echo:
        return Echo()


class Point:
    name = "echo"

    def load(self) -> type[Adapter]:
        return Adapter


def test_others_register_an_adapter_as_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(*, group: str, name: str = "echo") -> list[Point]:
        assert group == "portico.frameworks"
        return [Point()] if name == "echo" else []

    monkeypatch.setattr(adapter_registry, "entry_points", entry_points)
    assert "echo" in framework_names()
    assert isinstance(load_framework("echo"), Adapter)
    assert LocalHost([agent_of("echo")]).agents[0].framework == "echo"
