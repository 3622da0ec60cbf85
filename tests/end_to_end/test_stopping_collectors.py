"""The end of a process whose telemetry collector is slow or absent."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.collector import running_collector
from support.deployment import SCRIPTED, Deployment, ask, free_port

NEVER = {"OTEL_EXPORTER_OTLP_TIMEOUT": "3600000", "OTEL_BSP_SCHEDULE_DELAY": "3600000"}


@contextmanager
def collector(kind: str) -> Iterator[int]:
    """Yields the port of a collector that is absent, or accepts connections and never answers."""
    if kind == "refuses":
        yield free_port()
        return
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize(("kind", "protocol"), [("refuses", "http/protobuf"), ("is silent", "grpc")])
def test_a_collector_that_is_away_does_not_keep_core_and_gateway_from_ending(
    tmp_path: Path, kind: str, protocol: str
) -> None:
    with collector(kind) as port:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "PORTICO_CORE_DRAIN_SECONDS": "0",
            **NEVER,
        }
        deployment = Deployment(SCRIPTED, tmp_path, env=environment)
        answer = httpx.post(f"{deployment.url}/process", json=ask("say hi"), timeout=60)
        assert answer.status_code == 200
        assert deployment.stop() == 0
    assert "killing it" not in deployment.log.read_text()


def test_core_and_gateway_send_what_they_have_before_they_end(tmp_path: Path) -> None:
    with running_collector() as there:
        deployment = Deployment(SCRIPTED, tmp_path, env={**there.environment(), **NEVER})
        httpx.post(f"{deployment.url}/process", json=ask("say hi"), timeout=60)
        assert deployment.stop() == 0
        assert {"portico-core", "portico-gateway"} <= {span.service for span in there.spans}
