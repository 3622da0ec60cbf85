"""Measures many readers of one run through the SSE gateway: GET /runs/{id}/events. Portico only."""

import re
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from statistics import median

from benchmarks.client import Client
from benchmarks.crowd import Crowd, Stream
from benchmarks.requests import BrokenReply, events, read
from benchmarks.results import Readers, percentile
from benchmarks.servers import Server
from benchmarks.wires import PROCESS

REPLAYED_TOKENS = 1000
REPLAY_SECONDS = 3.0
LIVE_TOKENS = 500
GIVE_UP = 180.0
SAMPLED = 20
STAMP = re.compile(rb'"delta":true,[^}]*"text":"(\d+) "')


def measure(server: Server, readers: int) -> Readers:
    """Returns the events per second of readers that replay an ended run, and their lag behind a live run."""
    lags = _follow(server, readers)
    return Readers(
        readers=readers,
        events_per_second=_replay(server, readers),
        lag_median_ms=median(lags) * 1e3,
        lag_p99_ms=percentile(lags, 99) * 1e3,
    )


def _replay(server: Server, readers: int) -> float:
    """Lets every reader read the whole ended run repeatedly for some seconds."""
    with Client(server.address) as client:
        log = events(client.fetch(PROCESS.ask(str(REPLAYED_TOKENS))).raw)
    request = read(f"/runs/{log[0]['id']}/events")
    began = time.monotonic()
    laps = _Laps(readers, request, began + REPLAY_SECONDS)
    with Crowd(server.address, laps.finished, keep=1) as crowd:
        crowd.connect(readers)
        began = time.monotonic()
        crowd.run([(0.0, request)] * readers, laps.complete)
    if events(laps.sample) != log:
        raise BrokenReply("a replay is not what was live")
    return laps.done * len(log) / (laps.last - began)


def _follow(server: Server, readers: int) -> list[float]:
    """Returns the seconds from a token's creation in the agent to each reader, with all readers attached."""
    laps = _Laps(readers, None, 0.0)
    with Client(server.address) as client, Crowd(server.address, laps.finished, keep=SAMPLED) as crowd:
        crowd.connect(readers)
        run_id = client.begin(PROCESS.ask(f"stamped {LIVE_TOKENS}"))
        crowd.run([(0.0, read(f"/runs/{run_id}/events"))] * readers, laps.complete)
        kept = [stream for stream in crowd.streams.values() if stream.keeps]
        attached = max(stream.answered for stream in crowd.streams.values())
    lags = []
    for stream in kept:
        ends = [size for size, _ in stream.packets]
        for token in STAMP.finditer(stream.kept):
            born = int(token[1]) / 1e9
            if born > attached:
                lags.append(stream.packets[bisect_left(ends, token.end())][1] - born)
    if not lags:
        raise BrokenReply(f"the run ended before {readers} readers were attached")
    return lags


@dataclass(slots=True)
class _Laps:
    """Counts complete reads; starts another one until the time is over."""

    readers: int
    request: bytes | None
    until: float
    deadline: float = field(default_factory=lambda: time.monotonic() + GIVE_UP)
    done: int = 0
    ended: int = 0
    last: float = 0.0
    sample: bytes = b""

    def finished(self, stream: Stream, now: float) -> bytes | None:
        self.done, self.last = self.done + 1, now
        if stream.keeps:
            self.sample = bytes(stream.kept)
        if now < self.until:
            return self.request
        self.ended += 1
        return None

    def complete(self, now: float) -> bool:
        if now > self.deadline:
            raise BrokenReply(f"{self.ended} of {self.readers} readers were done in {GIVE_UP:.0f} s")
        return self.ended == self.readers
