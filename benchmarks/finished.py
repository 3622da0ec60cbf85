"""Measures the memory that remains after tasks have ended."""

import time

from benchmarks.client import Client
from benchmarks.results import Growth, GrowthPoint
from benchmarks.servers import Server
from benchmarks.wires import Wire

EVERY = 5_000


def grow(server: Server, tasks: int, *, wire: Wire, warm_seconds: float) -> Growth:
    """Runs tasks of ten tokens one after the other, and measures the memory at intervals.

    The core remembers automatic idempotency keys for ninety seconds; after that their number is constant.
    """
    with Client(server.address) as client:
        until = time.monotonic() + warm_seconds
        warm = 0
        while time.monotonic() < until:
            _run(client, 100, wire)
            warm += 100
        points = [_point(server, 0)]
        for done in range(EVERY, tasks + 1, EVERY):
            _run(client, EVERY, wire)
            points.append(_point(server, done))
    return Growth(warm=warm, points=points)


def _run(client: Client, tasks: int, wire: Wire) -> None:
    for _ in range(tasks):
        reply = client.fetch(wire.ask("10"))
    wire.check(reply.raw, 10)


def _point(server: Server, tasks: int) -> GrowthPoint:
    return GrowthPoint(tasks=tasks, processes=server.memory())
