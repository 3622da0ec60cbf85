"""The cost of observability and limits: the same load without them, and with metrics, traces, the audit,
limits, and all of them.

Each variant runs at the same time as a plain server, both newly started, so that load on the machine
affects both equally: one after the other, the difference would exceed the measured effect. The difference
between two plain servers is noise. Every request belongs to another user, and has a credential in all
variants.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from benchmarks import servers, wrk
from benchmarks.results import Spent
from benchmarks.servers import Server

CREDENTIAL = "a-key-of-the-benchmarks-and-nobody-else"
NO_TRACES = {"OTEL_TRACES_EXPORTER": "none"}
NO_METRICS = {"OTEL_METRICS_EXPORTER": "none"}
ONE_IN_TEN = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
PROMETHEUS = {"PORTICO_HTTP_METRICS": "true"}
AUDIT = {"PORTICO_CORE_AUDIT_LOG": "audit.jsonl"}
_MANY = ("TENANT_STORED_BYTES", "USER_STORED_BYTES", "TENANT_REQUESTS", "USER_REQUESTS", "RUN_TOKENS")
_SOME = ("RUNNING_RUNS", "TENANT_RUNNING_RUNS", "USER_RUNNING_RUNS", "TENANT_QUEUED_RUNS", "USER_QUEUED_RUNS")
_FEW = ("RUN_WALL_SECONDS", "RUN_TOOL_CALLS", "RUN_CHILD_RUNS")
# All limits, with values that no request reaches.
LIMITS = {
    f"PORTICO_CORE_{name}": most
    for names, most in ((_MANY, "1000000000000"), (_SOME, "10000"), (_FEW, "600"))
    for name in names
}
WAYS: Mapping[str, Mapping[str, str] | None] = {
    "nothing, again": None,
    "metrics": {**NO_TRACES, **PROMETHEUS},
    "traces, one in ten": {**NO_METRICS, **ONE_IN_TEN},
    "traces": NO_METRICS,
    "traces, one in ten, and metrics": {**ONE_IN_TEN, **PROMETHEUS},
    "traces and metrics": PROMETHEUS,
    "audit": {**NO_TRACES, **NO_METRICS, **AUDIT},
    "limits": {**NO_TRACES, **NO_METRICS, **LIMITS},
    "everything": {**ONE_IN_TEN, **PROMETHEUS, **AUDIT, **LIMITS},
}
WARM_SECONDS = 4


def measure(
    way: str, *, tokens: int, clients: int, seconds: int, rounds: int
) -> Iterator[tuple[Spent, Spent]]:
    """Returns the CPU ms per reply of Portico's processes by role, plain and in this variant, for each round.

    Each of the two servers has this many clients.
    """
    with _collector() as url, ThreadPoolExecutor(2) as pool, ExitStack() as stack:

        def start(more: Mapping[str, str] | None) -> Server:
            environment = {} if more is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **more}
            running = servers.running("portico", environment=environment, credential=CREDENTIAL)
            return stack.enter_context(running)

        def replies(server: Server, seconds: int) -> float:
            load = wrk.load(server, tokens=tokens, clients=clients, seconds=seconds)
            return load.replies_per_second * seconds

        pair = list(pool.map(start, (None, WAYS[way])))
        list(pool.map(replies, pair, (WARM_SECONDS, WARM_SECONDS)))
        for _ in range(rounds):
            before = [server.cpu_seconds() for server in pair]
            counts = list(pool.map(replies, pair, (seconds, seconds)))
            after = [server.cpu_seconds() for server in pair]
            # The clients' last requests are cut off; their cost is in neither figure.
            spent = zip(before, after, counts, strict=True)
            off, on = (
                {role: (end[role] - begin[role]) / count * 1e3 for role in end} for begin, end, count in spent
            )
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
