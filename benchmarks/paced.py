"""Paced streams: 200 tokens, one per 20 ms. Measures how many can run at once without slowing down.

wrk runs the streams back to back. Their starts are spread over one ideal reply, because callers that start
in the same millisecond would be served in step, which is easier than real load.
"""

import random
import time

from benchmarks import wrk
from benchmarks.crowd import Crowd
from benchmarks.machine import STOLEN, Host
from benchmarks.results import Held, Memory, PacedPoint
from benchmarks.servers import Server
from benchmarks.wires import PROCESS, Wire

TOKENS = 200
TEXT = f"paced {TOKENS}"
IDEAL = 4.0
QUIET = 3.8  # shorter than the pauses between the tokens
SECONDS = 18  # for the start, and for three replies of each stream
LIMIT = 1.05
TRIES = 5


def stretch(server: Server, streams: int, wire: Wire = PROCESS) -> PacedPoint:
    """Returns the duration of replies, relative to the ideal, with this many streams at once."""
    host = Host()
    seen = wrk.load(
        server, tokens=TOKENS, clients=streams, seconds=SECONDS, wire=wire, pace="paced", spread=IDEAL
    )
    ideal = IDEAL * 1000
    return PacedPoint(
        streams=streams,
        median=seen.median_ms / ideal,
        p95=seen.p95_ms / ideal,
        generator_cpu=seen.generator_cpu,
        stolen=host.stolen(),
    )


def hold(server: Server, *, start: int, most: int, wire: Wire = PROCESS) -> Held:
    """Returns the largest number of streams within the limit, to a twentieth: grows by half, then halves the
    gap.

    A number fails when it fails twice, because other load on the machine can spoil one try. Tries during
    which the host took CPUs away count only if all of them failed.
    """
    points: list[PacedPoint] = []

    def holds(streams: int) -> bool:
        tries: list[PacedPoint] = []
        while len(tries) < TRIES and sum(point.stolen <= STOLEN for point in tries) < 2:
            tries.append(stretch(server, streams, wire))
            if tries[-1].median <= LIMIT:
                break
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
    """Returns the memory of the processes at rest, and with this many active streams."""
    idle = server.memory()
    until = time.monotonic() + IDEAL * 1.5
    with Crowd(server.address, lambda _stream, _now: PROCESS.ask(TEXT), quiet=QUIET) as crowd:
        crowd.connect(streams)
        spread = [(random.uniform(0, IDEAL), PROCESS.ask(TEXT)) for _ in range(streams)]
        crowd.run(spread, lambda now: now > until)
        return Memory(streams=streams, idle=idle, loaded=server.memory())
