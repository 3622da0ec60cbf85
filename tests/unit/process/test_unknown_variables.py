"""Variables that are reported as misspelt."""

import pytest

from portico.core.settings.core_settings import CoreSettings
from portico.gateways.http.settings import HttpSettings
from portico.gateways.sse.settings import SseSettings
from portico.process.unknown_variables import find_unknown_variables


def reported(monkeypatch: pytest.MonkeyPatch, name: str) -> dict[str, str]:
    """The warnings of the core and of the gateways about a variable."""
    monkeypatch.setenv(name, "1")
    core = list(find_unknown_variables([CoreSettings], strangers=True))
    gateways = list(find_unknown_variables([HttpSettings, SseSettings], strangers=False))
    monkeypatch.delenv(name)
    return {process: " ".join(said) for process, said in (("core", core), ("gateways", gateways)) if said}


@pytest.mark.parametrize(
    ("name", "process", "nearest"),
    [
        ("PORTICO_CORE_LIVE_RUN", "core", "PORTICO_CORE_LIVE_RUNS"),
        ("PORTICO_CORE_DRAIN_SECOND", "core", "PORTICO_CORE_DRAIN_SECONDS"),
        ("portico_core_lisen", "core", "PORTICO_CORE_LISTEN"),
        ("PORTICO_CROE_STORE", "core", "PORTICO_CORE_STORE"),
        ("PORTICO_STORE", "core", "PORTICO_CORE_STORE"),
        ("PORTICO_HTTP_PING_SECOND", "gateways", "PORTICO_HTTP_PING_SECONDS"),
        ("PORTICO_SSE_PROCES_PATH", "gateways", "PORTICO_SSE_PROCESS_PATH"),
        ("PORTICO_GATEWAY_PING_SECONDS", "gateways", "PORTICO_HTTP_PING_SECONDS"),
    ],
)
def test_a_misspelt_variable_is_reported_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, name: str, process: str, nearest: str
) -> None:
    said = reported(monkeypatch, name)[process]
    assert f"the variable {name} " in said
    assert said.endswith(f"did you mean {nearest}?")


@pytest.mark.parametrize("name", ["PORTICO_CORE_COLOUR", "PORTICO_COLOUR"])
def test_what_is_near_to_nothing_is_reported_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    said = reported(monkeypatch, name)
    assert list(said) == ["core"]
    assert said["core"].endswith("has no effect")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "PORTICO_CORE_STORE",
            "portico_core_store",
            "PORTICO_HTTP_CORE",
            "PORTICO_CREDENTIAL",
            "PORTICO_TLS_CA",
        ),
        # Kubernetes sets these in each pod beside a Service named portico or portico-core.
        *("PORTICO_SERVICE_HOST", "PORTICO_CORE_SERVICE_PORT", "PORTICO_CORE_SERVICE_PORT_GRPC"),
        *("PORTICO_CORE_PORT", "PORTICO_HTTP_PORT_8090_TCP", "PORTICO_CORE_PORT_50051_TCP_ADDR"),
        *("MY_PORTICO_CORE_X", "PATH"),
    ],
)
def test_other_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert reported(monkeypatch, name) == {}
