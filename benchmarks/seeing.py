"""What it costs to be seen: the same load with nothing, metrics, and traces, exported to a collector.

All ways are up and loaded at the same time, so that whatever the machine does meets all of them alike: one
after the other they would differ by more than what is measured. "off" is there twice; what lies between the
two is noise.
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
    "off": None,
    "off again": None,
    "metrics": METRICS,
    "traces, one in ten": {
        **TRACES,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
    },
    "traces": TRACES,
    "traces and metrics": {"PORTICO_HTTP_METRICS": "true"},
}
# So that what is measured has been exported in it; otherwise it would wait for five seconds.
OFTEN = {"OTEL_BSP_SCHEDULE_DELAY": "1000"}
WARM_SECONDS = 3


def measure(*, tokens: int, clients: int, seconds: int, rounds: int) -> Iterator[Mapping[str, float]]:
    """CPU ms that a reply takes of all of Portico's processes, by way; each way has so many clients."""
    with ExitStack() as stack:
        url = stack.enter_context(_collector())
        pool = stack.enter_context(ThreadPoolExecutor(len(WAYS)))

        def start(more: Mapping[str, str] | None) -> Server:
            environment = {} if more is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **OFTEN, **more}
            return stack.enter_context(servers.running("portico", environment=environment))

        def replies(server: Server, seconds: int) -> float:
            load = wrk.load(server, tokens=tokens, clients=clients, seconds=seconds)
            return load.replies_per_second * seconds

        running = dict(zip(WAYS, pool.map(start, WAYS.values()), strict=True))
        list(pool.map(replies, running.values(), [WARM_SECONDS] * len(running)))
        for _ in range(rounds):
            before = [_cpu_seconds(server) for server in running.values()]
            done = list(pool.map(replies, running.values(), [seconds] * len(running)))
            after = [_cpu_seconds(server) for server in running.values()]
            # The clients' last requests are cut off, and their work is in neither figure.
            spent = zip(before, after, done, strict=True)
            yield dict(
                zip(running, ((end - begin) / count * 1e3 for begin, end, count in spent), strict=True)
            )


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
