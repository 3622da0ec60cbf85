"""The gateways of a process: all of them, or all but the one whose SDK is missing."""

import logging
import subprocess
import sys

import pytest

from portico.gateways.__main__ import main, make_site
from portico.gateways.gateway_registry import GATEWAYS


@pytest.fixture(autouse=True)
def logging_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portico.gateways.__main__._log", lambda settings: None)


@pytest.fixture
def old_mcp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portico.gateways.mcp.lazy_gateway.metadata.version", lambda name: "1.27.1")


def test_all_means_every_gateway() -> None:
    assert sorted(gateway.name for gateway in make_site("all", {}).gateways) == sorted(GATEWAYS)


@pytest.mark.usefixtures("old_mcp")
def test_without_a_new_mcp_all_others_are_served(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "portico.gateways"):
        names = [gateway.name for gateway in make_site("all", {}).gateways]
    assert names == [name for name in GATEWAYS if name != "mcp"]
    assert 'pip install "mcp>=2.3,<3"' in caplog.text


@pytest.mark.usefixtures("old_mcp")
def test_the_mcp_gateway_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", "--port", "0"]) == 2
    assert 'pip install "mcp>=2.3,<3"' in capsys.readouterr().err


def test_a_gateway_imports_no_database_and_mcps_sdk_when_it_is_asked_for() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "portico.gateways", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    imported = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert "starlette.types" in imported
    assert not [name for name in imported if name.startswith(("sqlalchemy.", "mcp.", "mcp_types."))]
