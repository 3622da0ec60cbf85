"""Metrics of real processes: as Prometheus reads them from core and gateway, and as OTLP exports them."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.collector import Collector, running_collector
from support.deployment import Deployment, ask, eventually, free_port

TRACED = Path(__file__).parent / "agents" / "traced.py"
METRICS_PORT = free_port()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def measured(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    environment = {
        **collector.environment(),
        "OTEL_TRACES_EXPORTER": "none",
        "PORTICO_HTTP_METRICS": "true",
        "PORTICO_CORE_METRICS_LISTEN": f"127.0.0.1:{METRICS_PORT}",
    }
    started = Deployment(TRACED, tmp_path_factory.mktemp("measured"), env=environment)
    yield started
    started.stop()


async def read(url: str) -> dict[str, float]:
    """Returns samples by name and labels, without the library's own."""
    async with httpx.AsyncClient(timeout=30) as http:
        response = await http.get(url)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    found = {}
    for line in response.text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            labels = re.sub(r'otel_scope_\w+="[^"]*",?', "", name).replace(",}", "}").removesuffix("{}")
            found[labels] = float(value)
    return found


async def test_runs_are_counted_by_status_and_timed(measured: Deployment) -> None:
    core = f"http://127.0.0.1:{METRICS_PORT}/metrics"
    async with httpx.AsyncClient(base_url=measured.url, timeout=60) as http:
        for text in ("say hi", "say ho", "fail now"):
            await http.post("/process", json=ask(text))
        waiting = asyncio.create_task(http.post("/process", json=ask("wait", session_id="w", user_id="u")))
        await waiting  # its stream ends with the question
        queued = (await http.post("/runs", json=ask("say hm", session_id="w", user_id="u"))).json()["id"]
        samples = await read(core)
        assert samples['portico_runs_total{agent="traced",status="completed"}'] == 2
        assert samples['portico_runs_total{agent="traced",status="failed"}'] == 1
        assert samples['portico_runs_live{state="paused"}'] == 1
        assert samples['portico_runs_live{state="queued"}'] == 1
        assert samples['portico_runs_live{state="executing"}'] == 0
        assert samples['portico_run_first_event_duration_seconds_count{agent="traced"}'] == 4
        assert samples['portico_run_duration_seconds_count{agent="traced",status="completed"}'] == 2
        assert samples["portico_events_total"] > 10
        assert samples["portico_log_commit_duration_seconds_count"] > 3
        assert samples["portico_store_writable"] == 1
        assert samples['portico_store_size_bytes{part="database"}'] > 0
        assert samples['portico_push_pending{state="waiting"}'] == 0
        assert samples["portico_sandboxes"] == 0
        assert samples["portico_sandbox_templates"] == 0
        await http.post(f"/runs/{queued}/cancel")


async def test_latencies_have_no_label_that_a_caller_could_make_up(measured: Deployment) -> None:
    async with httpx.AsyncClient(base_url=measured.url, timeout=60) as http:
        await http.get("/runs/resp_made_up")
        await http.request("PROPFIND", "/pots/made_up")
        await http.post("/process", json=ask("say hi", agent_name="made_up"))
        assert (await http.post("/process", json=ask("say hi"))).status_code == 200
    told = await read(f"{measured.url}/metrics")
    read_one = 'http_request_method="GET",http_response_status_code="404",portico_gateway="sse"'
    assert any(read_one in name for name in told)
    assert any('http_request_method="_OTHER"' in name for name in told)
    address = f"http://127.0.0.1:{METRICS_PORT}/metrics"
    streamed = 'rpc_method="portico.v1.QueryService/Query",rpc_response_status_code="OK"'
    async with asyncio.timeout(10):
        # A stream is recorded after it has ended; its reader may return earlier.
        core = await read(address)
        while not any(streamed in name for name in core):
            await asyncio.sleep(0.05)
            core = await read(address)
    called = (
        'rpc_server_call_duration_seconds_count{rpc_method="portico.v1.QueryService/GetRun",'
        'rpc_response_status_code="NOT_FOUND",rpc_system_name="grpc"}'
    )
    assert core[called] >= 1
    assert not any("made_up" in name or "PROPFIND" in name for name in [*told, *core])


async def test_the_same_goes_out_over_otlp(measured: Deployment, collector: Collector) -> None:
    async with httpx.AsyncClient(base_url=measured.url, timeout=60) as http:
        await http.post("/process", json=ask("say hi"))
    wanted = {
        "portico.runs",
        "portico.log.commit.duration",
        "portico.sandboxes",
        "portico.store.writable",
        "portico.store.size",
        "portico.push.pending",
        "portico.event_loop.lag",
        "portico.sandbox.templates",
        "http.server.request.duration",
    }
    await eventually(lambda: wanted <= collector.metrics, 20)
    assert not collector.spans, "of spans nothing was asked"


async def test_without_the_setting_metrics_is_no_path_of_ours(deployment: Deployment) -> None:
    async with httpx.AsyncClient(base_url=deployment.url, timeout=30) as http:
        assert (await http.get("/metrics")).status_code == 404
