"""Paced streams: 200 tokens, one per 20 ms. How many are held at once without getting slower?

The streams start spread over one ideal reply, so that all are under way when the first ends, and
run back to back. Each stream's second reply is counted, however long it takes: the first fills the
server, the third keeps it full until the last second reply has ended.
"""

import random
import time
from dataclasses import dataclass, field
from statistics import median

from benchmarks.crowd import Crowd, Stream
from benchmarks.requests import BrokenReply
from benchmarks.results import Held, Memory, PacedPoint, percentile
from benchmarks.servers import Server
from benchmarks.wires import PROCESS, Wire

TOKENS = 200
TEXT = f"paced {TOKENS}"
IDEAL = 4.0
QUIET = 3.8  # less than the pauses between the tokens
LIMIT = 1.05
GIVE_UP = 120.0
CHECKED = 10


@dataclass(slots=True)
class _Laps:
    """How often each stream has been around, and the second laps."""

    wire: Wire
    streams: int
    deadline: float
    done: dict[int, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)

    def finished(self, stream: Stream, now: float) -> bytes:
        lap = self.done[stream.number] = self.done.get(stream.number, 0) + 1
        if lap == 2:
            self.seconds.append(now - stream.began)
            self.sizes.append(stream.size)
            if stream.keeps:
                self.replies.append(bytes(stream.kept))
        return self.wire.ask(TEXT)

    def complete(self, now: float) -> bool:
        if now > self.deadline:
            raise BrokenReply(f"{len(self.seconds)} of {self.streams} streams ended in {GIVE_UP:.0f} s")
        return len(self.seconds) == self.streams

    def check(self) -> None:
        for reply in self.replies:
            self.wire.check(reply, TOKENS)
        usual = median(self.sizes)
        odd = [size for size in self.sizes if abs(size - usual) > usual * 0.02]
        if odd:
            raise BrokenReply(f"paced replies of {odd} bytes instead of {usual}")


def stretch(server: Server, streams: int, wire: Wire = PROCESS) -> PacedPoint:
    """How much longer than ideal the replies take with so many streams at once."""
    laps = _Laps(wire, streams, time.monotonic() + GIVE_UP)
    with Crowd(server.address, laps.finished, keep=CHECKED, quiet=QUIET) as crowd:
        crowd.connect(streams)
        began, spent = time.monotonic(), time.process_time()
        crowd.run(_spread(streams, wire), laps.complete)
        spent, took = time.process_time() - spent, time.monotonic() - began
    laps.check()
    stretches = [seconds / IDEAL for seconds in laps.seconds]
    return PacedPoint(
        streams=streams, median=median(stretches), p95=percentile(stretches, 95), generator_cpu=spent / took
    )


def hold(server: Server, *, start: int, most: int, wire: Wire = PROCESS) -> Held:
    """The largest number of streams within the limit, to a twentieth: grow by half, then halve the gap.

    A number fails when it fails twice, since anything else on the machine can spoil one try.
    """
    points: list[PacedPoint] = []

    def holds(streams: int) -> bool:
        tries = [stretch(server, streams, wire)]
        if tries[0].median > LIMIT:
            tries.append(stretch(server, streams, wire))
        points.append(min(tries, key=lambda point: point.median))
        return points[-1].median <= LIMIT

    good, bad, tried = 0, most + 1, start
    while good < tried < bad:
        if holds(tried):
            good = tried
        else:
            bad = tried
        if bad > most:
            tried = min(most, good + max(1, good // 2))
        elif bad - good > max(1, good // 20):
            tried = (good + bad) // 2
        else:
            break
    return Held(streams=good, points=sorted(points, key=lambda point: point.streams))


def memory(server: Server, streams: int) -> Memory:
    """What the processes take at rest, and with so many streams under way."""
    idle = server.memory()
    until = time.monotonic() + IDEAL * 1.5
    with Crowd(server.address, lambda _stream, _now: PROCESS.ask(TEXT), quiet=QUIET) as crowd:
        crowd.connect(streams)
        crowd.run(_spread(streams, PROCESS), lambda now: now > until)
        return Memory(streams=streams, idle=idle, loaded=server.memory())


def _spread(streams: int, wire: Wire) -> list[tuple[float, bytes]]:
    return [(random.uniform(0, IDEAL), wire.ask(TEXT)) for _ in range(streams)]
