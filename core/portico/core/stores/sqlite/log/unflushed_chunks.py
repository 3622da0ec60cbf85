"""The ends of runs' logs that are durable but not yet in their final place.

A stream of tokens would be a row a token, each in another place of the table.
Instead a commit writes what all runs produced as one row, a segment, appended
to a small table; a run's own rows are written when it ends, or when its tail
has grown. Until then its tail is in memory too, where readers find it. After a
crash the segments tell the tails again. So a token costs a few bytes at the end
of a file, and a finished run is a row or a few.
"""

import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from portico.core.stores.ports.stores import UNFINISHED_STATUSES, Chunk, Commit

TAIL_BYTES = 64 * 1024  # a tail that would be larger becomes a row
KEPT_SEGMENTS = 4096  # a tail that begins in an older one becomes a row, so that segments can go

_HEAD = struct.Struct("<HQQI")  # length of the run's id, first, last, length of the data


@dataclass(slots=True)
class Tail:
    """Chunks of one run that are only in segments, from the given one on."""

    segment_id: int
    chunks: list[Chunk] = field(default_factory=list)
    size: int = 0


@dataclass(slots=True)
class Plan:
    """What a commit writes of its chunks, and what is true of the tails once it has."""

    rows: list[Chunk]
    segment_id: int
    segment: bytes
    lasts: dict[str, int]
    grown: dict[str, list[Chunk]]  # what tails get
    settled: set[str]  # runs whose tail is in rows now
    ended: set[str]


class Tails:
    """The tails of all unfinished runs. Changed by the writer's thread, read by the reader's."""

    def __init__(self) -> None:
        self._tails: dict[str, Tail] = {}
        self._lasts: dict[str, int] = {}  # the last event of unfinished runs, wherever it is
        self._next_segment = 1
        self._lock = threading.Lock()

    def restore(self, segments: Iterable[tuple[int, bytes]], lasts: dict[str, int]) -> None:
        """Tell the tails from the segments; `lasts` has the last event in rows, of unfinished runs."""
        self._lasts = {run_id: last for run_id, last in lasts.items() if last >= 0}
        for segment_id, data in segments:
            self._next_segment = segment_id + 1
            for chunk in decode(data):
                if chunk.run_id not in lasts:
                    continue  # it has ended, and may be deleted
                if chunk.last > self._lasts.get(chunk.run_id, -1):
                    tail = self._tails.setdefault(chunk.run_id, Tail(segment_id))
                    tail.chunks.append(chunk)
                    tail.size += len(chunk.data)
                    self._lasts[chunk.run_id] = chunk.last

    def unknown(self, commit: Commit) -> set[str]:
        """Runs whose last event must be looked up before a plan: their chunks do not begin the log."""
        return {chunk.run_id for chunk in commit.chunks if chunk.first and chunk.run_id not in self._lasts}

    def plan(self, commit: Commit, looked_up: dict[str, int]) -> Plan:
        """Sort the commit's chunks into rows and a segment. Repeated chunks are left out."""
        ended = {run.run_id for run in commit.runs if run.status not in UNFINISHED_STATUSES}
        plan = Plan([], self._next_segment, b"", {}, {}, set(), ended)
        parts: list[bytes] = []
        for chunk in commit.chunks:
            run_id = chunk.run_id
            last = plan.lasts.get(run_id, self._lasts.get(run_id, looked_up.get(run_id, -1)))
            if chunk.last <= last:
                continue
            plan.lasts[run_id] = chunk.last
            tail = self._tails.get(run_id) if run_id not in plan.settled else None
            size = len(chunk.data) + (tail.size if tail is not None else 0)
            if run_id in ended or size > TAIL_BYTES:
                plan.rows.append(joined([*self._pending(plan, run_id), chunk]))
                plan.grown.pop(run_id, None)
                plan.settled.add(run_id)
            else:
                plan.grown.setdefault(run_id, []).append(chunk)
                parts += encode(chunk)
        plan.segment = b"".join(parts)
        self._settle(plan, ended)
        return plan

    def _settle(self, plan: Plan, ended: set[str]) -> None:
        """Give rows to tails whose run has ended, and to those that hold old segments."""
        oldest = self._next_segment - KEPT_SEGMENTS
        settled = ended if plan.segment_id % 256 else (*ended, *self._older_than(oldest))
        for run_id in settled:
            pending = self._pending(plan, run_id)
            if pending:
                plan.rows.append(joined(pending))
                plan.grown.pop(run_id, None)
                plan.settled.add(run_id)

    def _pending(self, plan: Plan, run_id: str) -> list[Chunk]:
        """What of the run is in no row, this plan's rows included."""
        tail = self._tails.get(run_id) if run_id not in plan.settled else None
        grown = plan.grown.get(run_id, [])
        return [*tail.chunks, *grown] if tail is not None else grown

    def _older_than(self, segment_id: int) -> list[str]:
        return [run_id for run_id, tail in self._tails.items() if tail.segment_id < segment_id]

    def done(self, plan: Plan) -> None:
        """The plan is written."""
        with self._lock:
            for run_id in plan.settled:
                self._tails.pop(run_id, None)
            for run_id, chunks in plan.grown.items():
                tail = self._tails.get(run_id)
                if tail is None:
                    tail = self._tails[run_id] = Tail(plan.segment_id)
                tail.chunks += chunks
                tail.size += sum([len(chunk.data) for chunk in chunks])
        self._lasts.update(plan.lasts)
        for run_id in plan.ended:
            self._lasts.pop(run_id, None)
        if plan.segment:
            self._next_segment += 1

    def settle_all(self) -> list[Chunk]:
        """Rows for all tails."""
        return [joined(tail.chunks) for tail in self._tails.values()]

    def all_settled(self) -> None:
        """Those rows are written."""
        with self._lock:
            self._tails.clear()

    def first_needed(self) -> int:
        """The segment before which all can go."""
        return min((tail.segment_id for tail in self._tails.values()), default=self._next_segment)

    def forget(self, run_id: str) -> None:
        """The run is deleted."""
        with self._lock:
            self._tails.pop(run_id, None)
        self._lasts.pop(run_id, None)

    def of(self, run_id: str) -> Sequence[Chunk]:
        """The run's tail. Take it before reading rows: what moves meanwhile is then in both, not in none."""
        with self._lock:
            tail = self._tails.get(run_id)
            return tuple(tail.chunks) if tail is not None else ()


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """Consecutive chunks as one; frames join by concatenation."""
    if len(chunks) == 1:
        return chunks[0]
    data = b"".join([chunk.data for chunk in chunks])
    return Chunk(chunks[0].run_id, chunks[0].first, chunks[-1].last, data)


def encode(chunk: Chunk) -> tuple[bytes, bytes, bytes]:
    """A chunk's place in a segment, in parts."""
    run_id = chunk.run_id.encode()
    return _HEAD.pack(len(run_id), chunk.first, chunk.last, len(chunk.data)), run_id, chunk.data


def decode(segment: bytes) -> Iterator[Chunk]:
    """The chunks of a segment."""
    position = 0
    while position < len(segment):
        id_length, first, last, length = _HEAD.unpack_from(segment, position)
        position += _HEAD.size
        run_id = segment[position : position + id_length].decode()
        position += id_length
        yield Chunk(run_id, first, last, segment[position : position + length])
        position += length
