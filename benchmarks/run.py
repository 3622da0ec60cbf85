"""The command: measures the selected sections one by one, and writes the report."""

import argparse
import os
import resource
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product

from benchmarks import (
    charts,
    deletes,
    finished,
    first_byte,
    machine,
    paced,
    readers,
    report,
    sandbox,
    search,
    servers,
    stored,
    telemetry,
    wrk,
)
from benchmarks.results import (
    SIDES,
    A2aSection,
    DeleteSection,
    Held,
    MemorySection,
    PacedSection,
    ReaderSection,
    ReplySection,
    ResponsesSection,
    Results,
    SandboxSection,
    SearchSection,
    Seen,
    Side,
    Stamp,
    StoredSection,
    TelemetrySection,
)
from benchmarks.wires import A2A, RESPONSES

CLIENTS = 50
TOKENS = 200
MEMORY_STREAMS = 500
# numbers of streams that are tried first
STARTS: dict[servers.Served, int] = {"peer": 10, "portico": 200, "bare": 200}
TURNS = 5  # turns of two gateways in one round, so that a slow minute affects both


@dataclass(frozen=True, slots=True)
class Plan:
    """The amounts of all measurements."""

    rounds: int
    seconds: int
    requests: int
    most_streams: int
    readers: tuple[int, ...]
    runs: tuple[int, ...]
    tasks: int = 40_000
    peer_tasks: int = 10_000
    warm_seconds: int = 100
    sandbox_runs: int = 200
    sandboxes: int = 1_000
    searches: int = 300
    memories: int = 1  # the fraction of the search's memories: one in this many
    deleted_memories: int = 500_000
    deleted_messages: int = 60_000


FULL = Plan(5, 10, 500, 1500, (1, 10, 100, 1000), (1_000, 10_000, 100_000))
QUICK = Plan(
    rounds=1,
    seconds=4,
    requests=100,
    most_streams=800,
    readers=(1, 10, 100),
    runs=(1_000, 10_000),
    tasks=5_000,
    peer_tasks=5_000,
    warm_seconds=5,
    sandbox_runs=20,
    sandboxes=50,
    searches=50,
    memories=20,
    deleted_memories=20_000,
    deleted_messages=5_000,
)


def main() -> None:
    options = _options()
    plan = QUICK if options.quick else FULL
    rounds = options.rounds or plan.rounds
    servers.needs()
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    results = Results.load()
    for name in options.only or SECTIONS:
        stamp = Stamp(
            date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            command=shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
            rounds=rounds,
            machine=machine.describe(),
        )
        SECTIONS[name](results, stamp, plan)
        results.save()
    charts.draw(results)
    report.write(results)


def replies(results: Results, stamp: Stamp, plan: Plan) -> None:
    """Measures replies per second with fifty clients, and the waiting time of a single client."""
    section = ReplySection(
        stamp=stamp,
        streaming={side: [] for side in SIDES},
        empty={side: [] for side in SIDES},
        first_byte={side: [] for side in SIDES},
    )
    for side in _turns(stamp.rounds):
        with servers.running(side) as server:
            waits = first_byte.wait(server, requests=plan.requests)
            wrk.load(server, tokens=TOKENS, clients=CLIENTS, seconds=2)  # to warm up
            streaming = wrk.load(server, tokens=TOKENS, clients=CLIENTS, seconds=plan.seconds)
            empty = wrk.load(server, tokens=0, clients=CLIENTS, seconds=plan.seconds)
        _say(f"{side}: {streaming.replies_per_second:.0f} replies of {TOKENS} tokens per second")
        _say(f"{side}: {empty.replies_per_second:.0f} empty replies per second")
        _say(f"{side}: {waits.first_event_ms:.2f} ms to the first event")
        section.streaming[side].append(streaming)
        section.empty[side].append(empty)
        section.first_byte[side].append(waits)
    results.replies = section


def paced_streams(results: Results, stamp: Stamp, plan: Plan) -> None:
    """Measures the largest number of paced streams without slowdown."""
    section = PacedSection(stamp=stamp, held={side: [] for side in SIDES})
    for side in _turns(stamp.rounds):
        section.held[side].append(_held(side, plan))
        if side == "portico":
            section.bare.append(_held("bare", plan))
    results.paced = section


def _held(side: servers.Served, plan: Plan) -> Held:
    """Returns the largest number of paced streams of a side, or of the yardstick."""
    with servers.running(side) as server:
        held = paced.hold(server, start=STARTS[side], most=plan.most_streams)
    for point in held.points:
        _say(f"{side}: {point.streams} paced streams, stretch {point.median:.3f}")
    return held


def responses(results: Results, stamp: Stamp, plan: Plan) -> None:
    """Measures the same agent through the Responses endpoint."""
    section = ResponsesSection(
        stamp=stamp,
        streaming={side: [] for side in SIDES},
        held=[],
        first_byte={"sse": [], "responses": []},
    )
    for side in _turns(stamp.rounds):
        with servers.running(side) as server:
            wrk.load(server, tokens=TOKENS, clients=CLIENTS, seconds=2, wire=RESPONSES)  # to warm up
            section.streaming[side].append(
                wrk.load(server, tokens=TOKENS, clients=CLIENTS, seconds=plan.seconds, wire=RESPONSES)
            )
            if side == "portico":
                for _ in range(TURNS):
                    requests = plan.requests // TURNS
                    section.first_byte["sse"].append(first_byte.wait(server, requests=requests))
                    section.first_byte["responses"].append(
                        first_byte.wait(server, requests=requests, wire=RESPONSES)
                    )
                section.held.append(paced.hold(server, start=150, most=plan.most_streams, wire=RESPONSES))
                _say(f"responses: {section.held[-1].streams} paced streams held")
        if side == "portico":
            section.bare.append(_held("bare", plan))
        _say(f"{side}: {section.streaming[side][-1].replies_per_second:.0f} responses per second")
    results.responses = section


def a2a(results: Results, stamp: Stamp, plan: Plan) -> None:
    """Measures the same agent through A2A, beside the SDK's request handler."""
    section = A2aSection(stamp=stamp, streaming={side: [] for side in SIDES}, growth={})
    for side in _turns(stamp.rounds):
        with servers.running(side, a2a=True) as server:
            wrk.load(server, tokens=TOKENS, clients=CLIENTS, seconds=2, wire=A2A)  # to warm up
            section.streaming[side].append(
                wrk.load(server, tokens=TOKENS, clients=CLIENTS, seconds=plan.seconds, wire=A2A)
            )
        _say(f"{side}: {section.streaming[side][-1].replies_per_second:.0f} replies over A2A per second")
    for side in SIDES:
        with servers.running(side, a2a=True) as server:
            tasks = plan.tasks if side == "portico" else plan.peer_tasks
            section.growth[side] = finished.grow(server, tasks, wire=A2A, warm_seconds=plan.warm_seconds)
        for point in section.growth[side].points:
            said = ", ".join(f"{process.role} {process.rss:.0f}" for process in point.processes)
            _say(f"{side}: RSS MiB after {point.tasks} tasks: {said}")
    results.a2a = section


def memory(results: Results, stamp: Stamp, _plan: Plan) -> None:
    """Measures the memory of every process with five hundred active paced streams."""
    section = MemorySection(stamp=stamp, sides={})
    for side in SIDES:
        with servers.running(side) as server:
            section.sides[side] = paced.memory(server, MEMORY_STREAMS)
        total = sum(process.pss for process in section.sides[side].loaded)
        _say(f"{side}: {total:.0f} MiB with {MEMORY_STREAMS} paced streams")
    results.memory = section


def readers_of_one_run(results: Results, stamp: Stamp, plan: Plan) -> None:
    """Measures the cost of additional readers of one run."""
    section = ReaderSection(stamp=stamp, points=[])
    for count in plan.readers:
        with servers.running("portico") as server:
            section.points.append(readers.measure(server, count))
        point = section.points[-1]
        _say(f"{count} readers: {point.events_per_second:.0f} events/s, p99 lag {point.lag_p99_ms:.1f} ms")
    results.readers = section


def stored_runs(results: Results, stamp: Stamp, plan: Plan) -> None:
    """Measures the cost of additional stored runs."""
    section = StoredSection(stamp=stamp, points=[])
    with servers.running("portico") as server:
        for point in stored.measure(server, plan.runs):
            _say(f"{point.runs} stored runs: {point.replies_per_second:.0f} empty replies per second")
            section.points.append(point)
    results.stored = section


def other_users_deletes(results: Results, stamp: Stamp, plan: Plan) -> None:
    """Measures one user's waiting time while another user's data is deleted."""
    section = DeleteSection(stamp=stamp, load=os.getloadavg()[0], deletes=[])
    for found in deletes.measure(plan.deleted_memories, plan.deleted_messages):
        slowest = max(found.during_ms.values())
        _say(f"delete of {found.count} ({found.what}): {found.seconds:.1f} s, slowest call {slowest:.0f} ms")
        section.deletes.append(found)
    results.deletes = section


def sandboxes(results: Results, stamp: Stamp, plan: Plan) -> None:
    """Measures the time and memory of sandboxes."""
    section = SandboxSection(stamp=stamp, load=os.getloadavg()[0], figures=[])
    for figure in sandbox.measure(plan.sandbox_runs, plan.sandboxes):
        p99 = "" if figure.p99 is None else f", least {figure.least:.2f}, p99 {figure.p99:.2f}"
        _say(f"{figure.name}: {figure.median:.2f} {figure.unit}{p99}")
        section.figures.append(figure)
    results.sandbox = section


def telemetry_cost(results: Results, stamp: Stamp, plan: Plan) -> None:
    """Measures the cost of traces, metrics, the audit and limits."""
    load, clients = os.getloadavg()[0], CLIENTS // 2
    section = TelemetrySection(stamp=stamp, load=load, clients=clients, seen=[])
    for tokens, way in product((TOKENS, 0), telemetry.WAYS):
        pairs = telemetry.measure(
            way, tokens=tokens, clients=clients, seconds=plan.seconds, rounds=stamp.rounds
        )
        section.seen.append(Seen(way=way, tokens=tokens, rounds=list(pairs)))
        said = (f"{role} {more:+.1f} %" for role, more in section.seen[-1].more().items())
        _say(f"{way}, {tokens} tokens: CPU of {', '.join(said)}")
    results.telemetry = section


def searches(results: Results, stamp: Stamp, plan: Plan) -> None:
    """Measures the time of searches, and how often they find an answer."""
    section = SearchSection(stamp=stamp, load=os.getloadavg()[0], searched=[], found=list(search.find()))
    for found in section.found:
        _say(f"{found.ranking}: {found.recall * 100:.1f} % of the answers, MRR {found.reciprocal_rank:.2f}")
    for users, each in search.crowds(plan.memories):
        for one in search.measure(users, each, plan.searches):
            _say(f"{users} x {each}, {one.query}: {one.median_ms:.1f} ms, p99 {one.p99_ms:.1f} ms")
            section.searched.append(one)
    results.search = section


SECTIONS: dict[str, Callable[[Results, Stamp, Plan], None]] = {
    "replies": replies,
    "paced": paced_streams,
    "responses": responses,
    "a2a": a2a,
    "memory": memory,
    "readers": readers_of_one_run,
    "stored": stored_runs,
    "deletes": other_users_deletes,
    "sandbox": sandboxes,
    "telemetry": telemetry_cost,
    "search": searches,
}


def _turns(rounds: int) -> Iterator[Side]:
    """Yields both sides in every round, in alternating order."""
    for number in range(rounds):
        yield from SIDES if number % 2 == 0 else reversed(SIDES)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section; may be repeated")
    parser.add_argument("--rounds", type=int, help="how often the two sides are measured in turn")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
