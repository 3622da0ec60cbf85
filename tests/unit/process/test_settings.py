"""Errors in settings name option and variable, in Portico's own words."""

from pathlib import Path
from typing import Any

import pytest

from portico.core.settings.core_settings import CoreSettings
from portico.gateways.__main__ import make_site
from portico.process.settings import Misconfigured, named, read

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"live_runs": "0"}, "--live-runs (PORTICO_CORE_LIVE_RUNS) must be at least 1"),
    ({"live_runs": "x"}, "--live-runs (PORTICO_CORE_LIVE_RUNS) must be a whole number"),
    ({"live_runs": "1.5"}, "--live-runs (PORTICO_CORE_LIVE_RUNS) must be a whole number"),
    ({"live_runs": "9" * 5000}, "--live-runs (PORTICO_CORE_LIVE_RUNS) must be a smaller number"),
    ({"drain_seconds": "soon"}, "--drain-seconds (PORTICO_CORE_DRAIN_SECONDS) must be a number"),
    ({"run_wall_seconds": "0"}, "--run-wall-seconds (PORTICO_CORE_RUN_WALL_SECONDS) must be more than 0"),
    (
        {"jwt_leeway_seconds": "601"},
        "--jwt-leeway-seconds (PORTICO_CORE_JWT_LEEWAY_SECONDS) must be at most 600",
    ),
    ({"auth": "perhaps"}, "--auth (PORTICO_CORE_AUTH) must be true or false"),
    (
        {"log_level": "loud"},
        "--log-level (PORTICO_CORE_LOG_LEVEL) must be 'debug', 'info', 'warning' or 'error'",
    ),
    ({"listen": "127.0.0.1:1"}, "--listen (PORTICO_CORE_LISTEN) must be a list"),
    ({"listen": ["127.0.0.1"]}, "--listen (PORTICO_CORE_LISTEN) must be host:port"),
    (
        {"listen": ["127.0.0.1:65536"]},
        "--listen (PORTICO_CORE_LISTEN) must be host:port, with a port up to 65535",
    ),
    (
        {"store": "postgres://x/y"},
        "--store (PORTICO_CORE_STORE) can't be used: unsupported store URL postgres://",
    ),
    ({"store": "x"}, "--store (PORTICO_CORE_STORE) can't be used: invalid store URL"),
    ({"metrics_listen": "9464"}, "--metrics-listen (PORTICO_CORE_METRICS_LISTEN) must be host:port"),
    (
        {"tls_key": "/nonexistent"},
        "--tls-key (PORTICO_CORE_TLS_KEY) names a file that can't be read: /nonexistent: No",
    ),
    ({"sandbox_backend": "moon"}, "--sandbox-backend (PORTICO_CORE_SANDBOX_BACKEND) has an unknown backend"),
    (
        {"tls_cert": __file__},
        "--tls-cert (PORTICO_CORE_TLS_CERT) and --tls-key (PORTICO_CORE_TLS_KEY) go together",
    ),
    ({"jwt_issuer": "a"}, "--jwt-audience (PORTICO_CORE_JWT_AUDIENCE)"),
    ({"auth": True, "admin_key": "short-secret"}, "PORTICO_CORE_ADMIN_KEY needs 32"),
    ({"listen": ["0.0.0.0:1"]}, "--insecure-no-auth (PORTICO_CORE_INSECURE_NO_AUTH)"),
]


@pytest.mark.parametrize(("given", "words"), MISTAKES)
def test_a_mistake_is_told_by_option_and_variable(given: dict[str, Any], words: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        read(CoreSettings, given)
    said = str(caught.value)
    assert words in said
    assert "\n" not in said
    for foreign in ("pydantic", "Value error", "Input should", "validation error", "short-secret"):
        assert foreign not in said


def test_several_mistakes_are_told_together() -> None:
    with pytest.raises(Misconfigured, match=r"--drain-seconds .*; --live-runs "):
        read(CoreSettings, {"live_runs": 0, "drain_seconds": -1})


def test_a_list_that_is_no_json_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_CORE_LISTEN", "127.0.0.1:50051")
    with pytest.raises(Misconfigured, match=r"--listen \(PORTICO_CORE_LISTEN\) is a list and must be JSON"):
        read(CoreSettings, {})


def test_a_secret_has_no_option() -> None:
    assert named(CoreSettings, "admin_key") == "PORTICO_CORE_ADMIN_KEY"


def test_a_gateways_mistake_is_told_by_the_option_that_it_has_among_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("portico.gateways.__main__._log", lambda settings: None)
    with pytest.raises(Misconfigured, match=r"^--sse-process-path \(PORTICO_SSE_PROCESS_PATH\) must begin"):
        make_site("all", {"sse_process_path": "x/"})
    with pytest.raises(Misconfigured, match=r"^--process-path \(PORTICO_SSE_PROCESS_PATH\) must begin"):
        make_site("sse", {"process_path": "x/"})
    with pytest.raises(
        Misconfigured, match=r"^--ping-seconds \(PORTICO_HTTP_PING_SECONDS\) must be more than"
    ):
        make_site("all", {"ping_seconds": "0"})
    monkeypatch.setenv("PORTICO_A2A_PUSH_SECONDS", "never")
    with pytest.raises(
        Misconfigured, match=r"^--a2a-push-seconds \(PORTICO_A2A_PUSH_SECONDS\) must be a number"
    ):
        make_site("all", {})
