"""The standard variables set up the SDK; without them nothing does."""

import itertools
import os
import subprocess
import sys
import threading
import time

import pytest
from opentelemetry import trace

from portico.telemetry import setup
from portico.telemetry.metrics import meters
from portico.telemetry.setup import Telemetry
from portico.telemetry.tracing import spans


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "pigeon", "OTEL_EXPORTER_OTLP_PROTOCOL is http/protobuf or grpc"),
        (
            "OTEL_TRACES_EXPORTER",
            "zipkin",
            "OTEL_TRACES_EXPORTER must be otlp, console or none, not 'zipkin'",
        ),
    ],
)
def test_a_variable_that_cant_be_meant_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, problem: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=problem):
        Telemetry("test")
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
        },
    ],
)
def test_off_is_off(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    telemetry = Telemetry("test")
    assert spans.tracer() is None
    assert meters.meter() is None
    telemetry.close()


def test_the_references_variables_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "TRACE_ENABLE_REPORT": "true",
        "TRACE_ENDPOINT": "http://127.0.0.1:1",
        "TRACE_AUTHENTICATION": "me",
    }
    monkeypatch.setattr(os, "environ", told)
    monkeypatch.setattr(Telemetry, "_trace", lambda *_: None)
    Telemetry("test").close()
    assert told["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == "http://127.0.0.1:1"
    assert told["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "grpc"
    assert told["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] == "authentication=me"


def test_off_does_not_even_import_the_sdk() -> None:
    program = (
        "import sys, portico.core.server.core_server;"
        "from portico.telemetry.setup import Telemetry; Telemetry('t');"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry.sdk')"
        " or name.startswith('opentelemetry.exporter')))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_collector_that_is_away_holds_up_nobody(protocol: str) -> None:
    program = (
        "from portico.telemetry import setup; from portico.telemetry.tracing import spans;"
        "setup.CLOSE_SECONDS = 0.2;"
        "telemetry = setup.Telemetry('t'); spans.end(spans.begin('x', {})); telemetry.close()"
    )
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "PYTHONPATH": ":".join(sys.path),
    }
    subprocess.run([sys.executable, "-c", program], env=environment, timeout=30, check=True)


def test_all_that_is_left_is_waited_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf:
        """A provider whose collector never answers."""

        def shutdown(self) -> None:
            threading.Event().wait()

    clock = itertools.chain([100.0], itertools.repeat(100.0 + setup.CLOSE_SECONDS))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    waited: list[float] = []
    monkeypatch.setattr(threading.Thread, "join", lambda _, timeout: waited.append(timeout))
    telemetry = Telemetry("test")
    telemetry._providers = [Deaf(), Deaf()]
    telemetry.close()
    assert waited == [0.0, 0.0]  # no time was left by then
    assert setup.CLOSE_SECONDS <= 1
