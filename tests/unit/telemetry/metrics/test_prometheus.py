"""Access to a core's metrics on their port."""

import httpx
import pytest

from portico.telemetry.metrics import prometheus


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0"])
def test_a_rebound_name_reads_no_metrics(address: str) -> None:
    with prometheus.served(address) as port:
        url = f"http://{address.rpartition(':')[0]}:{port}/metrics"
        for host in ("localhost", f"127.0.0.1:{port}", "[::1]:80"):
            answer = httpx.get(url, headers={"host": host})
            assert (answer.status_code, "python_info" in answer.text) == (200, True)
        for host in ("evil.example", f"localhost.evil.example:{port}", "localhost@evil.example", "[x"):
            answer = httpx.get(url, headers={"host": host})
            assert (answer.status_code, "python_info" in answer.text) == (421, False)


def test_a_port_for_other_machines_answers_to_any_name() -> None:
    with prometheus.served("0.0.0.0:0") as port:
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"host": "core.internal"})
        assert answer.status_code == 200
