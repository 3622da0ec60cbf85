"""The table of gateways: one row adds a gateway."""

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from portico.cli.main import app
from portico.gateways.__main__ import _parser, make_site
from portico.gateways.gateway_registry import GATEWAYS, GatewayKind
from portico.gateways.http.settings import HttpSettings
from portico.gateways.sse.app import SseGateway
from portico.gateways.sse.settings import SseSettings

ROOT = Path(__file__).parents[3]


class EchoSettings(SseSettings):
    echoes: int = 1

    def other_addresses(self) -> tuple[str, ...]:
        return ("127.0.0.2:7", "unix:/run/echo")


class EchoGateway(SseGateway):
    name = "echo"


ECHO = GatewayKind(
    title="Echo",
    description="Returns what it receives",
    settings_path=f"{__name__}:EchoSettings",
    factory_path=f"{__name__}:EchoGateway",
)


@pytest.mark.parametrize("name", GATEWAYS)
def test_each_row_names_a_gateway_and_its_settings(name: str) -> None:
    settings = GATEWAYS[name].settings()
    assert issubclass(settings, HttpSettings)
    assert GATEWAYS[name].factory()(settings()).name == name


def test_a_row_adds_the_gateway_its_options_and_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portico.gateways.__main__._log", lambda settings: None)
    monkeypatch.setitem(GATEWAYS, "echo", ECHO)
    assert _parser().parse_args(["echo", "--echoes", "2"]).echoes == "2"
    assert _parser().parse_args(["all", "--echo-echoes", "2"]).echo_echoes == "2"
    site = make_site("echo", {"echoes": "2"})
    assert [gateway.name for gateway in site.gateways] == ["echo"]
    assert site.other_hosts == ("127.0.0.2",)
    assert "echo" in [gateway.name for gateway in make_site("all", {}).gateways]


def test_the_command_line_describes_each_row() -> None:
    words = CliRunner().invoke(app, ["gateway", "--help"], terminal_width=200).output
    for name, kind in GATEWAYS.items():
        assert f"Start the {kind.title} gateway. `portico gateway {name} --help`" in words


def test_no_gateway_may_import_another() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (independence,) = [one for one in contracts if one["type"] == "independence"]
    assert sorted(independence["modules"]) == sorted(f"portico.gateways.{name}" for name in GATEWAYS)
