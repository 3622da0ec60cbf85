"""Measures the waiting time of one client: empty replies, one after the other on one connection."""

from statistics import median

from benchmarks.client import Client
from benchmarks.results import FirstByte, percentile
from benchmarks.servers import Server
from benchmarks.wires import PROCESS, Wire


def wait(server: Server, *, requests: int, wire: Wire = PROCESS) -> FirstByte:
    """Returns the waiting times of the requests; as many requests before them warm up the server."""
    with Client(server.address) as client:
        replies = [client.fetch(wire.ask("0")) for _ in range(2 * requests)][requests:]
    for reply in replies:
        wire.check(reply.raw, 0)
    events = [reply.first_event * 1e3 for reply in replies]
    return FirstByte(
        headers_ms=median(reply.headers for reply in replies) * 1e3,
        first_event_ms=median(events),
        first_event_p99_ms=percentile(events, 99),
        whole_ms=median(reply.whole for reply in replies) * 1e3,
    )
