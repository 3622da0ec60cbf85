"""What is left in memory of tasks that have ended."""

import time

from benchmarks.client import Client
from benchmarks.results import Growth
from benchmarks.servers import Server
from benchmarks.wires import Wire

WARM = 500  # what a server needs at all it has by then
SETTLE_SECONDS = 2


def grow(server: Server, tasks: int, *, wire: Wire) -> Growth:
    """Runs so many tasks of ten tokens, one after the other."""
    with Client(server.address) as client:
        _run(client, WARM, wire)
        before = _memory(server)
        _run(client, tasks, wire)
        return Growth(tasks=tasks, before=before, after=_memory(server))


def _run(client: Client, tasks: int, wire: Wire) -> None:
    for _ in range(tasks):
        reply = client.fetch(wire.ask("10"))
    wire.check(reply.raw, 10)


def _memory(server: Server) -> float:
    time.sleep(SETTLE_SECONDS)
    return sum(process.pss for process in server.memory())
