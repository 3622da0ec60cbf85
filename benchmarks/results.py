"""The measured results, stored in results.json so that single sections can be measured again."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Literal

from pydantic import BaseModel

Side = Literal["peer", "portico"]
SIDES: tuple[Side, Side] = ("peer", "portico")

FILE = Path(__file__).parent / "results.json"


class Machine(BaseModel):
    """The machine and the versions."""

    cores: int
    processor: str
    kernel: str
    filesystem: str
    python: str
    portico: str
    peer: str
    wrk: str


class Stamp(BaseModel):
    """When and how a section was measured."""

    date: str
    command: str
    rounds: int
    machine: Machine


class Throughput(BaseModel):
    """The result of one run of wrk."""

    replies_per_second: float
    median_ms: float
    p95_ms: float = 0
    p99_ms: float
    generator_cpu: float = 0


class FirstByte(BaseModel):
    """One client, one request after the other."""

    headers_ms: float
    first_event_ms: float
    first_event_p99_ms: float
    whole_ms: float


class PacedPoint(BaseModel):
    """This many paced streams at once; the stretch is 1 for a stream that took its ideal time."""

    streams: int
    median: float
    p95: float
    generator_cpu: float
    stolen: float = 0  # CPUs that the host gave to other machines meanwhile


class Held(BaseModel):
    """The largest number of streams with a median stretch within the limit, and every point on the way."""

    streams: int
    points: list[PacedPoint]


class Process(BaseModel):
    """The memory of one process in MiB; PSS divides shared memory among the processes."""

    role: str
    pss: float
    rss: float


class Memory(BaseModel):
    streams: int
    idle: list[Process]
    loaded: list[Process]


class Readers(BaseModel):
    """Readers of an ended run at full speed, and of a live run with the lag per event."""

    readers: int
    events_per_second: float
    lag_median_ms: float
    lag_p99_ms: float


class Stored(BaseModel):
    """Empty replies with this many runs in the log, and reads of the log."""

    runs: int
    first_event_ms: float
    first_event_p99_ms: float
    replies_per_second: float
    list_ms: float
    replay_ms: float
    store_mib: float


class SandboxFigure(BaseModel):
    """Over this many runs. Without 99th percentile and minimum it is one figure for all of them."""

    name: str
    unit: str
    runs: int
    median: float
    p99: float | None
    least: float | None = None  # the time on an idle machine
    yardstick: float | None = None  # ms that bubblewrap takes to start `true`, measured beside it


class Delete(BaseModel):
    """The slowest calls of another user by kind, before and during the deletion of this many items."""

    what: str
    count: int
    seconds: float
    quiet_ms: dict[str, float]
    during_ms: dict[str, float]


class ReplySection(BaseModel):
    stamp: Stamp
    streaming: dict[Side, list[Throughput]]
    empty: dict[Side, list[Throughput]]
    first_byte: dict[Side, list[FirstByte]]


class PacedSection(BaseModel):
    stamp: Stamp
    held: dict[Side, list[Held]]
    bare: list[Held] = []  # the yardstick


class ResponsesSection(BaseModel):
    """The OpenAI gateway, beside the peer's Responses endpoint and Portico's SSE gateway."""

    stamp: Stamp
    streaming: dict[Side, list[Throughput]]
    held: list[Held]
    bare: list[Held] = []  # the yardstick
    first_byte: dict[Literal["sse", "responses"], list[FirstByte]]


class GrowthPoint(BaseModel):
    """The memory of every process after this many more tasks have ended."""

    tasks: int
    processes: list[Process]


class Growth(BaseModel):
    """The memory that tasks leave, after this many tasks for warming up."""

    warm: int
    points: list[GrowthPoint]


class A2aSection(BaseModel):
    """The A2A gateway, beside a2a-sdk's request handler with its store in memory."""

    stamp: Stamp
    streaming: dict[Side, list[Throughput]]
    growth: dict[Side, Growth]


class MemorySection(BaseModel):
    stamp: Stamp
    sides: dict[Side, Memory]


class ReaderSection(BaseModel):
    stamp: Stamp
    points: list[Readers]


class StoredSection(BaseModel):
    stamp: Stamp
    points: list[Stored]


class DeleteSection(BaseModel):
    """`load` is the load average of the machine before the section began."""

    stamp: Stamp
    load: float
    deletes: list[Delete]


class SandboxSection(BaseModel):
    """`load` is the load average of the machine before the section began."""

    stamp: Stamp
    load: float
    figures: list[SandboxFigure]


Spent = dict[str, float]  # CPU ms by the role of a process


class Seen(BaseModel):
    """The CPU time per reply of this many tokens: without and with the feature at the same time."""

    way: str
    tokens: int
    rounds: list[tuple[Spent, Spent]]

    def spent(self, role: str) -> tuple[float, float]:
        """The CPU time of the processes with this role, averaged over the rounds."""
        off, on = (sum(pair[which][role] for pair in self.rounds) / len(self.rounds) for which in (0, 1))
        return off, on

    def more(self) -> dict[str, float]:
        """The increase in percent."""
        found = {role: self.spent(role) for role in ("core", "gateway")}
        return {role: (on / off - 1) * 100 for role, (off, on) in found.items()}


class TelemetrySection(BaseModel):
    stamp: Stamp
    load: float
    clients: int
    seen: list[Seen]


class Searched(BaseModel):
    """Searches in one user's memories, with this many users and memories of each."""

    users: int
    memories: int
    query: str
    median_ms: float
    p99_ms: float


class Found(BaseModel):
    """How many questions have their answer among the first ten results, and the mean reciprocal rank."""

    ranking: str
    questions: int
    recall: float
    reciprocal_rank: float


class SearchSection(BaseModel):
    """`load` is the load average of the machine before the section began."""

    stamp: Stamp
    load: float
    searched: list[Searched]
    found: list[Found]


class Results(BaseModel):
    replies: ReplySection | None = None
    paced: PacedSection | None = None
    memory: MemorySection | None = None
    readers: ReaderSection | None = None
    stored: StoredSection | None = None
    deletes: DeleteSection | None = None
    responses: ResponsesSection | None = None
    a2a: A2aSection | None = None
    sandbox: SandboxSection | None = None
    telemetry: TelemetrySection | None = None
    search: SearchSection | None = None

    @classmethod
    def load(cls) -> "Results":
        return cls.model_validate_json(FILE.read_text()) if FILE.exists() else cls()

    def save(self) -> None:
        FILE.write_text(self.model_dump_json(indent=1) + "\n")


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the smallest value that this percentage of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(percent * 100) // 10_000) - 1)]


def median_throughput(rounds: Sequence[Throughput]) -> Throughput:
    """Returns the median of each figure over the rounds."""
    return Throughput(
        replies_per_second=median(round.replies_per_second for round in rounds),
        median_ms=median(round.median_ms for round in rounds),
        p99_ms=median(round.p99_ms for round in rounds),
    )


def median_first_byte(rounds: Sequence[FirstByte]) -> FirstByte:
    """Returns the median of each figure over the rounds."""
    return FirstByte(
        headers_ms=median(round.headers_ms for round in rounds),
        first_event_ms=median(round.first_event_ms for round in rounds),
        first_event_p99_ms=median(round.first_event_p99_ms for round in rounds),
        whole_ms=median(round.whole_ms for round in rounds),
    )
