"""Runs in the log: the cost of replies and reads with 1 k, 10 k and 100 k runs. Portico only."""

from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks import first_byte, wrk
from benchmarks.client import Client
from benchmarks.crowd import Crowd, Stream
from benchmarks.requests import OK, BrokenReply, events, read
from benchmarks.results import Stored
from benchmarks.servers import Server
from benchmarks.wires import PROCESS

CLIENTS = 50
WAITS = 100
LOAD_SECONDS = 3  # short, because these replies are stored too
READS = 50


def measure(server: Server, levels: Sequence[int]) -> Iterator[Stored]:
    """Fills the log to each level with empty replies, and measures there."""
    with Client(server.address) as client:
        oldest = events(client.fetch(PROCESS.ask("0")).raw)[0]["id"]
    runs = 1
    for level in levels:
        if runs < level:
            _fill(server, level - runs)
            runs = level
        data = [file for file in (server.directory / "data").rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in data)
        list_ms = _read(server, "/runs")
        replay_ms = _read(server, f"/runs/{oldest}/events")
        waits = first_byte.wait(server, requests=WAITS)
        load = wrk.load(server, tokens=0, clients=CLIENTS, seconds=LOAD_SECONDS)
        yield Stored(
            runs=runs,
            first_event_ms=waits.first_event_ms,
            first_event_p99_ms=waits.first_event_p99_ms,
            replies_per_second=load.replies_per_second,
            list_ms=list_ms,
            replay_ms=replay_ms,
            store_mib=size / 2**20,
        )
        runs += 2 * WAITS + int(load.replies_per_second * LOAD_SECONDS)


def _fill(server: Server, runs: int) -> None:
    """Adds exactly this many runs."""
    left = runs - CLIENTS
    done = 0

    def finished(_stream: Stream, _now: float) -> bytes | None:
        nonlocal done, left
        done += 1
        left -= 1
        return PROCESS.ask("0") if left >= 0 else None

    with Crowd(server.address, finished) as crowd:
        crowd.connect(CLIENTS)
        crowd.run([(0.0, PROCESS.ask("0")) for _ in range(CLIENTS)], lambda _now: done == runs)


def _read(server: Server, path: str) -> float:
    """Returns the median milliseconds of a GET."""
    with Client(server.address) as client:
        replies = [client.fetch(read(path)) for _ in range(READS)]
    if not all(reply.raw.startswith(OK) for reply in replies):
        raise BrokenReply(f"GET {path}: {replies[0].raw[:200]!r}")
    return median(reply.whole for reply in replies) * 1e3
