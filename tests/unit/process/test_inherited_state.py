"""Connections to this machine use no proxy."""

import os

import pytest

from portico.agent import AgentApp
from portico.client import Client
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings
from portico.process import inherited_state

NOWHERE = "http://127.0.0.1:9"
LOOPBACK = "localhost,127.0.0.1,::1"


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("no_proxy", "NO_PROXY"):
        # Set and deleted, so that monkeypatch undoes what the tested code sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize(
    ("given", "lower", "upper"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": NOWHERE}, LOOPBACK, LOOPBACK),
        (
            {"http_proxy": NOWHERE, "no_proxy": "a.b, ::1"},
            "a.b,::1,localhost,127.0.0.1",
            "a.b,::1,localhost,127.0.0.1",
        ),
        ({"http_proxy": NOWHERE, "NO_PROXY": "a.b"}, f"a.b,{LOOPBACK}", f"a.b,{LOOPBACK}"),
        ({"http_proxy": NOWHERE, "NO_PROXY": "a", "no_proxy": "b"}, f"b,{LOOPBACK}", f"a,{LOOPBACK}"),
        ({"http_proxy": NOWHERE, "no_proxy": "*"}, "*", None),
    ],
)
def test_loopback_is_added_to_what_needs_no_proxy(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], lower: str | None, upper: str | None
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    inherited_state._reach_loopback_directly()
    assert os.environ.get("no_proxy") == lower
    assert os.environ.get("NO_PROXY") == upper


@pytest.mark.usefixtures("no_proxies")
async def test_a_client_asks_no_proxy_for_a_core_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, NOWHERE)
    app = AgentApp("here")
    app.query(lambda: "hello")
    server = CoreServer([app], CoreSettings(listen=["127.0.0.1:0"], store="memory://", drain_seconds=0))
    await server.start()
    try:
        async with Client(server.addresses[0], timeout=20) as client:
            assert (await client.agents.get()).name == "here"
    finally:
        await server.stop()
