"""Writes the results as RESULTS.md."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.paced import LIMIT
from benchmarks.readers import REPLAYED_TOKENS
from benchmarks.results import (
    SIDES,
    A2aSection,
    DeleteSection,
    FirstByte,
    GrowthPoint,
    Held,
    MemorySection,
    PacedSection,
    ReaderSection,
    ReplySection,
    ResponsesSection,
    Results,
    SandboxFigure,
    SandboxSection,
    SearchSection,
    Seen,
    Side,
    Stamp,
    StoredSection,
    TelemetrySection,
    Throughput,
    median_first_byte,
    median_throughput,
)

Row = tuple[str, ...]
Figures = Throughput | FirstByte

FILE = Path(__file__).parent / "RESULTS.md"

HEAD = """\
# Benchmarks

Portico beside AgentScope Runtime, measured on one machine by `make bench`; written by the command, not by
hand. Both serve the same agent over HTTP and server-sent events. Only one of the two runs at a time, started
afresh for every round, and they take turns in going first; figures are medians over the rounds. Portico runs
as `portico run` starts it: core and gateway, every event committed to SQLite before a reader gets it. The
peer runs as one process with its cheapest kind of agent (framework "text"), its logging off, and stores
nothing. While wrk loads a server, a client beside it checks whole replies: every token, no gap in the
numbers, one terminal event. An error, or replies of the wrong size, end the benchmark. `×` is how many times
better.
"""

# In ms unless the figure has another unit; of the 99th percentile if marked. The goals were set on a machine
# on which the yardstick took this many ms.
SANDBOX_GOALS: dict[str, tuple[float, bool]] = {
    "create to first result": (8, False),
    "create to first result, warm pool": (2, False),
    "create to first result, warm pool, 4 in a row": (2, False),
    "cell round trip": (0.8, False),
    "create to first result, pandas": (20, False),
    "50 creates at once": (150, True),
    "50 creates at once, the first rush": (150, True),
    "create to first result, docker": (250, False),
    "PSS of an idle sandbox": (2.86, False),  # 3 MB
    "checkpoint": (2, False),
    "rollback": (2, False),
    "kill of 5 orphans": (5, True),
}
GOALS_YARDSTICK = 5.13
# The capacity of a bare relay on the machine on which the goals for paced streams were set.
GOALS_BARE = 600
PACED_GOAL = 500
RESPONSES_GOAL = 300


def write(results: Results) -> None:
    """Writes all results so far."""
    parts = [HEAD]
    if results.replies is not None:
        parts.append("\n".join(_replies(results.replies)))
    if results.paced is not None:
        parts.append("\n".join(_paced(results.paced)))
    if results.responses is not None:
        parts.append("\n".join(_responses(results.responses)))
    if results.a2a is not None:
        parts.append("\n".join(_a2a(results.a2a)))
    if results.memory is not None:
        parts.append("\n".join(_memory(results.memory)))
    if results.readers is not None:
        parts.append("\n".join(_readers(results.readers)))
    if results.stored is not None:
        parts.append("\n".join(_stored(results.stored)))
    if results.deletes is not None:
        parts.append("\n".join(_deletes(results.deletes)))
    if results.sandbox is not None:
        parts.append("\n".join(_sandbox(results.sandbox)))
    if results.telemetry is not None:
        parts.append("\n".join(_telemetry(results.telemetry)))
    if results.search is not None:
        parts.append("\n".join(_search(results.search)))
    FILE.write_text("\n".join(parts))


def _replies(section: ReplySection) -> Iterator[str]:
    streaming = {side: median_throughput(section.streaming[side]) for side in SIDES}
    empty = {side: median_throughput(section.empty[side]) for side in SIDES}
    waits = {side: median_first_byte(section.first_byte[side]) for side in SIDES}
    yield "## Replies\n"
    yield from _table(
        ("", "AgentScope Runtime", "Portico", "×", "goal"),
        [
            ("**200-token replies/s, 50 clients**", *_more(streaming, "replies_per_second"), "≥ 10"),
            ("median, ms", *_less(streaming, "median_ms"), ""),
            ("99th percentile, ms", *_less(streaming, "p99_ms"), ""),
            ("**empty replies/s, 50 clients**", *_more(empty, "replies_per_second"), "≥ 4"),
            ("median, ms", *_less(empty, "median_ms"), ""),
            ("99th percentile, ms", *_less(empty, "p99_ms"), ""),
            ("**empty replies, 1 client**: first event, ms", *_less(waits, "first_event_ms"), "≥ 1"),
            ("99th percentile, ms", *_less(waits, "first_event_p99_ms"), ""),
            ("headers, ms", *_less(waits, "headers_ms"), ""),
            ("whole reply, ms", *_less(waits, "whole_ms"), ""),
        ],
    )
    yield "![Replies per second](charts/throughput.png)\n"
    yield _said(section.stamp)


def _paced(section: PacedSection) -> Iterator[str]:
    held = {side: [found.streams for found in section.held[side]] for side in SIDES}
    best = {side: float(median(held[side])) for side in SIDES}
    usual = (f"{best[side]:,.0f}" for side in SIDES)
    cpu = max(point.generator_cpu for side in SIDES for found in section.held[side] for point in found.points)
    last: dict[str, Held] = {side: section.held[side][-1] for side in SIDES}
    if section.bare:
        last["bare"] = section.bare[-1]
    yield "## Paced streams\n"
    yield "50 tokens per second, 200 tokens: 4 s at best. How many streams at once take, in the median,"
    yield f"at most {(LIMIT - 1) * 100:.0f} % longer? They start spread over 4 s and run back to back."
    yield f"wrk itself took up to {cpu * 100:.0f} % of a core. The bare relay (benchmarks/bare) is a"
    yield "yardstick: the same libraries with nothing of Portico. Where the goal was set such a one held"
    yield f"{GOALS_BARE}. A number fails in two tries during which the host left this machine its cores.\n"
    yield from _table(
        ("", "AgentScope Runtime", "Portico", "×", "goal"),
        [
            ("**streams held**", *usual, _times(best), f"≥ {PACED_GOAL} streams"),
            ("in each round", *(", ".join(f"{n:,}" for n in held[side]) for side in SIDES), "", ""),
            *_beside_bare(section.bare, best["portico"], PACED_GOAL),
        ],
    )
    yield from _table(
        ("streams", "stretch, median", "95th percentile"),
        [
            (f"{point.streams:,} {name}", f"{point.median:.3f}", f"{point.p95:.3f}")
            for name, found in last.items()
            for point in found.points
        ],
    )
    yield "The stretches are of the last round.\n"
    yield "![Stretch of paced streams](charts/paced.png)\n"
    yield _said(section.stamp)


def _beside_bare(bare: Sequence[Held], held: float, goal: int) -> Iterator[Row]:
    """Returns goals relative to the yardstick: they were set on a faster machine, and the ratio holds on any
    machine.
    """
    if bare:
        usual = median(found.streams for found in bare)
        yield "a bare relay holds", "", f"{usual:,.0f}", "", ""
        yield "**share of the bare relay's**", "", f"{held / usual:.2f}", "", f"≥ {goal / GOALS_BARE:.2f}"


def _responses(section: ResponsesSection) -> Iterator[str]:
    streaming = {side: median_throughput(section.streaming[side]) for side in SIDES}
    waits = {wire: median_first_byte(found) for wire, found in section.first_byte.items()}
    held = median(found.streams for found in section.held)
    later = waits["responses"].first_event_ms - waits["sse"].first_event_ms
    yield "## Responses\n"
    yield "`POST /compatible-mode/v1/responses` with `stream: true`, on both sides. The peer"
    yield "sends this text as a whole, we send 200 deltas, and keep every response.\n"
    yield from _table(
        ("", "AgentScope Runtime", "Portico", "×", "goal"),
        [
            ("**200-token responses/s, 50 clients**", *_more(streaming, "replies_per_second"), "≥ 5"),
            ("median, ms", *_less(streaming, "median_ms"), ""),
            ("99th percentile, ms", *_less(streaming, "p99_ms"), ""),
            ("**paced streams held**", "", f"{held:,.0f}", "", f"≥ {RESPONSES_GOAL} streams"),
            *_beside_bare(section.bare, held, RESPONSES_GOAL),
            ("**first event**, 1 client, ms", "", _number(waits["responses"].first_event_ms), "", ""),
            ("more than through the SSE gateway, ms", "", f"{later:.2f}", "", "≤ 0.5"),
        ],
    )
    yield _said(section.stamp)


def _a2a(section: A2aSection) -> Iterator[str]:
    streaming = {side: median_throughput(section.streaming[side]) for side in SIDES}
    growth = section.growth
    yield "## A2A\n"
    yield "`SendStreamingMessage` over JSON-RPC; each reply is a task of 200 chunks. The peer is a2a-sdk's"
    yield "own request handler with its store in memory, in one process; we keep every task.\n"
    yield from _table(
        ("", "a2a-sdk", "Portico", "×", "goal"),
        [
            ("**200-chunk replies/s, 50 clients**", *_more(streaming, "replies_per_second"), "≥ 3"),
        ],
    )
    yield "Resident memory in MiB once so many tasks of 10 chunks had ended, one after the other, and others"
    warm = {side: f"{growth[side].warm:,}" for side in SIDES}
    yield f"before them ({warm['peer']} of a2a-sdk, {warm['portico']} of Portico) to warm up."
    yield "What the core takes on are SQLite's page caches, at most 16 MiB a connection, and the automatic"
    yield "idempotency keys of the last 90 seconds, more of them the faster tasks come.\n"
    peer = {point.tasks: _rss(point, "server") for point in growth["peer"].points}
    yield from _table(
        ("tasks", "a2a-sdk", "Portico's gateway", "Portico's core"),
        [
            (f"{point.tasks:,}", peer.get(point.tasks, ""), _rss(point, "gateway"), _rss(point, "core"))
            for point in growth["portico"].points
        ],
    )
    yield _said(section.stamp)


def _rss(point: GrowthPoint, role: str) -> str:
    return f"{sum(process.rss for process in point.processes if process.role == role):.0f}"


def _memory(section: MemorySection) -> Iterator[str]:
    streams = section.sides["portico"].streams
    yield f"## Memory at {streams} paced streams\n"
    rows = []
    for side in SIDES:
        found = section.sides[side]
        for idle, loaded in zip(found.idle, found.loaded, strict=True):
            rows.append((f"{side}: {idle.role}", *(f"{n:.0f}" for n in (idle.pss, loaded.pss, loaded.rss))))
        total = (sum(process.pss for process in found.idle), sum(process.pss for process in found.loaded))
        rows.append((f"**{side}, all**", *(f"{n:.0f}" for n in total), ""))
    yield from _table(("process", "at rest, PSS MiB", f"{streams} streams, PSS MiB", "RSS MiB"), rows)
    yield _said(section.stamp)


def _readers(section: ReaderSection) -> Iterator[str]:
    yield "## Readers of one run\n"
    yield "Through the SSE gateway, `GET /runs/{id}/events`. Events per second: all readers together,"
    yield f"replaying a run of {REPLAYED_TOKENS:,} tokens that has ended. Lag: from the agent's `yield` to"
    yield "the reader's socket, in a live run of 50 tokens per second, once every reader is attached.\n"
    yield from _table(
        ("readers", "events per second", "lag, median ms", "lag, 99th percentile ms"),
        [
            (f"{p.readers:,}", f"{p.events_per_second:,.0f}", _number(p.lag_median_ms), _number(p.lag_p99_ms))
            for p in section.points
        ],
    )
    yield "![Readers of one run](charts/readers.png)\n"
    yield _said(section.stamp)


def _stored(section: StoredSection) -> Iterator[str]:
    yield "## Stored runs\n"
    yield "Every run has a user and a session of its own. The list is its first page; the oldest run is read"
    yield "from its first event to its last.\n"
    columns = ("runs", "empty replies/s, 50 clients", "first event, ms", "99th percentile, ms")
    yield from _table(
        (*columns, "list, ms", "replay of the oldest, ms", "data on disk, MiB"),
        [
            (
                f"{p.runs:,}",
                f"{p.replies_per_second:,.0f}",
                *map(_number, (p.first_event_ms, p.first_event_p99_ms, p.list_ms, p.replay_ms, p.store_mib)),
            )
            for p in section.points
        ],
    )
    yield "![Stored runs](charts/stored.png)\n"
    yield _said(section.stamp)


def _sandbox(section: SandboxSection) -> Iterator[str]:
    yield "## Sandboxes\n"
    yield "Through the Python client and gRPC to a core in another process, one run after another with 50 ms"
    yield "between them, unless it says otherwise; a sandbox and its first cell over one stream, where it"
    yield "does not say a call each; the library is used without a server. Every answer is checked. A kill"
    yield "has ended when no process of the sandbox is left; each orphan ignores signals and has a child."
    yield "After such a pause a machine is slower: a call that does nothing tells how much of it that is."
    yield "Two sandboxes wait to be asked for, for half a minute after a rush up to 24: of the first 50 at"
    yield "once 2 had been made before, of each later 50 24. PSS is of all processes of a sandbox. × bwrap is"
    yield "the figure over what bubblewrap took beside it to start `true` in namespaces of its own, and no"
    yield "more: machines differ, also from hour to hour,"
    yield f"and the goals were set on one where that took {GOALS_YARDSTICK} ms. A figure during which the"
    yield "host took more than a twentieth of a CPU away is measured again, twice at most, and the least"
    yield "disturbed is told."
    yield f"The machine's load average was {section.load:.1f} before it began" + (
        ": others kept its cores busy,\nso times are longer than those of a quiet machine.\n"
        if section.load > section.stamp.machine.cores
        else ".\n"
    )
    yield from _table(
        ("", "least", "median", "99th percentile", "runs", "goal", "bwrap, ms", "× bwrap", "goal"),
        [
            (
                f"{figure.name}, {figure.unit}",
                "" if figure.least is None else _number(figure.least),
                _number(figure.median),
                "" if figure.p99 is None else _number(figure.p99),
                f"{figure.runs:,}",
                *_sandbox_goal(figure),
            )
            for figure in section.figures
        ],
    )
    yield _said(section.stamp)


def _sandbox_goal(figure: SandboxFigure) -> Row:
    """Returns the goal, the yardstick, and both as ratios."""
    goal, worst = SANDBOX_GOALS.get(figure.name, (None, False))
    said = "" if goal is None else f"{'p99 ' if worst else ''}≤ {goal:g}"
    if figure.yardstick is None:
        return said, "", "", ""
    beside = _number(figure.yardstick)
    if goal is None:
        return said, beside, "", ""
    value = figure.p99 if worst and figure.p99 is not None else figure.median
    return said, beside, f"{value / figure.yardstick:.2f}", f"≤ {goal / GOALS_YARDSTICK:.2f}"


def _more(figures: Mapping[Side, Figures], name: str) -> Row:
    """Returns both sides and the ratio of a figure for which more is better."""
    values = {side: getattr(figures[side], name) for side in SIDES}
    return _number(values["peer"]), _number(values["portico"]), _times(values)


def _less(figures: Mapping[Side, Figures], name: str) -> Row:
    """Returns both sides and the ratio of a figure for which less is better."""
    values = {side: getattr(figures[side], name) for side in SIDES}
    turned: dict[Side, float] = {"peer": values["portico"], "portico": values["peer"]}
    return _number(values["peer"]), _number(values["portico"]), _times(turned)


def _times(values: Mapping[Side, float]) -> str:
    return f"{values['portico'] / values['peer']:.1f}" if values["peer"] else "∞"


def _number(value: float) -> str:
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def _table(columns: Row, rows: Sequence[Row]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"| --- |{' ---: |' * (len(columns) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _said(stamp: Stamp) -> str:
    machine = stamp.machine
    return (
        f"{stamp.date}, `{stamp.command}`, rounds: {stamp.rounds}. Portico {machine.portico}, "
        f"agentscope-runtime {machine.peer}, wrk {machine.wrk}, Python {machine.python}; "
        f"{machine.cores} cores of {machine.processor}, Linux {machine.kernel}, {machine.filesystem}.\n"
    )


def _deletes(section: DeleteSection) -> Iterator[str]:
    yield "## Deletes of another user\n"
    yield "The slowest call of a user, in ms, in five seconds without a delete and while another user's"
    yield "things are deleted, each kind of call one after the other. To forget a user also writes the file"
    yield f"anew, during which commits wait. The load average was {section.load:.1f} when it began.\n"
    yield from _table(
        ("deleted", "seconds", "call", "without", "meanwhile", "goal"),
        [
            (f"{found.count:,}: {found.what}", _number(found.seconds), call, *both, "< 50")
            for found in section.deletes
            for call, before in found.quiet_ms.items()
            for both in ((_number(before), _number(found.during_ms[call])),)
        ],
    )
    yield _said(section.stamp)


_TELEMETRY_GOALS = {"traces, one in ten, and metrics": "< 10 %", "audit": "< 5 %"}


def _search(section: SearchSection) -> Iterator[str]:
    yield "## Search\n"
    yield "In memories of 8 to 24 words, most of them common ones, through the Python client and gRPC to a"
    yield "core in another process, one search after another. The goal is a 99th percentile below 15 ms for"
    yield "10,000 users with 50 memories each. The machine's load average was"
    yield f"{section.load:.1f} before it began.\n"
    yield from _table(
        ("users", "memories of each", "query", "median, ms", "99th percentile, ms"),
        [
            (f"{s.users:,}", f"{s.memories:,}", s.query, f"{s.median_ms:.1f}", f"{s.p99_ms:.1f}")
            for s in section.searched
        ],
    )
    yield "In made conversations of two friends: how often the turn that answers a question is among the"
    yield "first ten, and the mean reciprocal rank.\n"
    yield from _table(
        ("ranking", "questions", "recall of ten", "MRR"),
        [
            (f.ranking, f"{f.questions:,}", f"{f.recall * 100:.1f} %", f"{f.reciprocal_rank:.2f}")
            for f in section.found
        ],
    )
    yield _said(section.stamp)


def _telemetry(section: TelemetrySection) -> Iterator[str]:
    yield "## Being seen and limited\n"
    yield "CPU time of the core and of the gateways for a reply: with spans and metrics exported over OTLP to"
    yield "a collector that keeps nothing, the audit, and all limits that there are. Every request is another"
    yield f"user's and has a credential. Each is loaded, by {section.clients} clients, at the same time as"
    yield "one with nothing of it, and compared with that: so both share whatever the machine does. The lines"
    yield "with nothing tell the noise. Everything is metrics, one trace in ten, audit and limits. The load"
    yield f"average was {section.load:.1f} when it began.\n"
    yield from _table(
        ("reply", "with", "core, ms", "with nothing", "more", "gateway, ms", "with nothing", "more", "goal"),
        [
            (f"{seen.tokens} tokens", seen.way, *_spent(seen, "core"), *_spent(seen, "gateway"), goal)
            for seen in section.seen
            for goal in (_TELEMETRY_GOALS.get(seen.way, ""),)
        ],
    )
    yield _said(section.stamp)


def _spent(seen: Seen, role: str) -> tuple[str, str, str]:
    off, on = seen.spent(role)
    return f"{on:.2f}", f"{off:.2f}", f"{seen.more()[role]:+.1f} %"
