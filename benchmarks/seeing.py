"""What it costs to be seen: the same load with nothing, metrics, and traces, exported to a collector.

Each way is loaded at the same time as one with nothing, both of them new, so that whatever the machine does
meets both alike: one after the other they would differ by more than what is measured. What lies between two
with nothing is noise.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import psutil

from benchmarks import servers, wrk
from benchmarks.servers import Server

TRACES = {"OTEL_METRICS_EXPORTER": "none"}
METRICS = {"OTEL_TRACES_EXPORTER": "none", "PORTICO_HTTP_METRICS": "true"}
WAYS: Mapping[str, Mapping[str, str] | None] = {
    "nothing, again": None,
    "metrics": METRICS,
    "traces, one in ten": {
        **TRACES,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
    },
    "traces": TRACES,
    "traces and metrics": {"PORTICO_HTTP_METRICS": "true"},
}
WARM_SECONDS = 4


def measure(
    way: str, *, tokens: int, clients: int, seconds: int, rounds: int
) -> Iterator[tuple[float, float]]:
    """CPU ms that a reply takes of all of Portico's processes, with nothing and in this way, in each round.

    Each of the two has so many clients.
    """
    with _collector() as url, ThreadPoolExecutor(2) as pool, ExitStack() as stack:

        def start(more: Mapping[str, str] | None) -> Server:
            environment = {} if more is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **more}
            return stack.enter_context(servers.running("portico", environment=environment))

        def replies(server: Server, seconds: int) -> float:
            load = wrk.load(server, tokens=tokens, clients=clients, seconds=seconds)
            return load.replies_per_second * seconds

        pair = list(pool.map(start, (None, WAYS[way])))
        list(pool.map(replies, pair, (WARM_SECONDS, WARM_SECONDS)))
        for _ in range(rounds):
            before = [_cpu_seconds(server) for server in pair]
            counts = list(pool.map(replies, pair, (seconds, seconds)))
            after = [_cpu_seconds(server) for server in pair]
            # The clients' last requests are cut off, and their work is in neither figure.
            spent = zip(before, after, counts, strict=True)
            off, on = ((end - begin) / count * 1e3 for begin, end, count in spent)
            yield off, on


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
