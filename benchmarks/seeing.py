"""What it costs to be seen: the same load with nothing, metrics, and traces, exported to a collector."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil

from benchmarks import servers, wrk
from benchmarks.results import Seeing
from benchmarks.servers import Server

TRACES = {"OTEL_METRICS_EXPORTER": "none"}
METRICS = {"OTEL_TRACES_EXPORTER": "none", "PORTICO_HTTP_METRICS": "true"}
WAYS: Mapping[str, Mapping[str, str] | None] = {
    "off": None,
    "metrics": METRICS,
    "traces, one in ten": {
        **TRACES,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
    },
    "traces": TRACES,
    "traces and metrics": {"PORTICO_HTTP_METRICS": "true"},
}


def measure(way: str, *, tokens: int, clients: int, seconds: int) -> Seeing:
    """Replies per second, and the CPU time of all of Portico's processes for one."""
    more = WAYS[way]
    with _collector() as url:
        environment = {} if more is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **more}
        with servers.running("portico", environment=environment) as server:
            wrk.load(server, tokens=tokens, clients=clients, seconds=2)  # to warm up
            before = _cpu_seconds(server)
            load = wrk.load(server, tokens=tokens, clients=clients, seconds=seconds)
            spent = _cpu_seconds(server) - before
    # The clients' last requests are cut off, and their work is in neither figure.
    return Seeing(load=load, cpu_ms=spent / (load.replies_per_second * seconds) * 1e3)


@contextmanager
def _collector() -> Iterator[str]:
    (port,) = servers.free_ports(1)
    sink = subprocess.Popen([sys.executable, "-m", "benchmarks.sink", str(port)])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        sink.terminate()
        sink.wait()


def _cpu_seconds(server: Server) -> float:
    tree: list[psutil.Process] = [server.process, *server.process.children(recursive=True)]
    times = [process.cpu_times() for process in tree]
    return sum(time.user + time.system for time in times)
