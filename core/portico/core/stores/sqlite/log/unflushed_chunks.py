"""Chunks that are durable in segments but not yet rows of run_events: the tails of runs' logs.

One row per token would write to a different place of the table for each token.
Instead, a commit appends the chunks of all runs as one row, a segment, to a small
table. A run's own rows are written when it ends, or when its tail has grown. Until
then the tail is also in memory, for readers. After a crash the tails are restored
from the segments. So a token costs a few bytes at the end of a file, and a finished
run has only a few rows.
"""

import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from portico.core.stores.ports.stores import Chunk, Commit
from portico.model.run_status import UNFINISHED_STATUSES

MAX_UNFLUSHED_BYTES = 64 * 1024  # a tail that would become larger is written as a row
MAX_SEGMENTS = 4096  # a tail that begins in an older segment is written as a row, to free the segments

_HEAD = struct.Struct("<HQQI")  # length of the run's id, first, last, length of the data


@dataclass(slots=True)
class UnflushedChunk:
    """Chunks of one run that are only in segments, the first of which is `segment_id`."""

    segment_id: int
    chunks: list[Chunk] = field(default_factory=list)
    size: int = 0


@dataclass(slots=True)
class FlushPlan:
    """The rows and the segment that a commit writes for its chunks, and the resulting changes to tails."""

    rows: list[Chunk]
    segment_id: int
    segment: bytes
    lasts: dict[str, int]  # the new last event by run
    grown: dict[str, list[Chunk]]  # chunks to append to tails
    settled: set[str]  # runs whose tail is written as rows
    ended: set[str]


class UnflushedChunks:
    """The tails of all unfinished runs. Changed by the writer's thread, read by the reader's."""

    def __init__(self) -> None:
        self._tails: dict[str, UnflushedChunk] = {}
        self._lasts: dict[str, int] = {}  # the last event of unfinished runs, in rows or in tails
        self._next_segment = 1
        self._lock = threading.Lock()

    def restore(self, segments: Iterable[tuple[int, bytes]], lasts: dict[str, int]) -> None:
        """Restore the tails from segments.

        Args:
            segments: Ids and contents, in order.
            lasts: For each unfinished run its last event in rows, or -1.
        """
        self._lasts = {run_id: last for run_id, last in lasts.items() if last >= 0}
        for segment_id, data in segments:
            self._next_segment = segment_id + 1
            for chunk in decode(data):
                if chunk.run_id not in lasts:
                    continue  # the run has ended, or is deleted
                if chunk.last > self._lasts.get(chunk.run_id, -1):
                    tail = self._tails.setdefault(chunk.run_id, UnflushedChunk(segment_id))
                    tail.chunks.append(chunk)
                    tail.size += len(chunk.data)
                    self._lasts[chunk.run_id] = chunk.last

    def runs_to_look_up(self, commit: Commit) -> set[str]:
        """Return runs whose last event must be looked up before a plan: their chunks do not start a log."""
        return {chunk.run_id for chunk in commit.chunks if chunk.first and chunk.run_id not in self._lasts}

    def plan(self, commit: Commit, looked_up: dict[str, int]) -> FlushPlan:
        """Divide the commit's chunks into rows and a segment. Chunks committed before are left out."""
        ended = {run.run_id for run in commit.runs if run.status not in UNFINISHED_STATUSES}
        plan = FlushPlan([], self._next_segment, b"", {}, {}, set(), ended)
        parts: list[bytes] = []
        for chunk in commit.chunks:
            run_id = chunk.run_id
            last = plan.lasts.get(run_id, self._lasts.get(run_id, looked_up.get(run_id, -1)))
            if chunk.last <= last:
                continue
            plan.lasts[run_id] = chunk.last
            tail = self._tails.get(run_id) if run_id not in plan.settled else None
            size = len(chunk.data) + (tail.size if tail is not None else 0)
            if run_id in ended or size > MAX_UNFLUSHED_BYTES:
                plan.rows.append(join_chunks([*self._pending(plan, run_id), chunk]))
                plan.grown.pop(run_id, None)
                plan.settled.add(run_id)
            else:
                plan.grown.setdefault(run_id, []).append(chunk)
                parts += encode(chunk)
        plan.segment = b"".join(parts)
        self._settle(plan, ended)
        return plan

    def _settle(self, plan: FlushPlan, ended: set[str]) -> None:
        """Plan rows for the tails of ended runs, and for tails that begin in old segments."""
        oldest = self._next_segment - MAX_SEGMENTS
        settled = ended if plan.segment_id % 256 else (*ended, *self._older_than(oldest))
        for run_id in settled:
            pending = self._pending(plan, run_id)
            if pending:
                plan.rows.append(join_chunks(pending))
                plan.grown.pop(run_id, None)
                plan.settled.add(run_id)

    def _pending(self, plan: FlushPlan, run_id: str) -> list[Chunk]:
        """Return the run's chunks that are neither stored as rows nor among this plan's rows."""
        tail = self._tails.get(run_id) if run_id not in plan.settled else None
        grown = plan.grown.get(run_id, [])
        return [*tail.chunks, *grown] if tail is not None else grown

    def _older_than(self, segment_id: int) -> list[str]:
        return [run_id for run_id, tail in self._tails.items() if tail.segment_id < segment_id]

    def mark_written(self, plan: FlushPlan) -> None:
        """Apply a plan to the tails after it was written."""
        with self._lock:
            for run_id in plan.settled:
                self._tails.pop(run_id, None)
            for run_id, chunks in plan.grown.items():
                tail = self._tails.get(run_id)
                if tail is None:
                    tail = self._tails[run_id] = UnflushedChunk(plan.segment_id)
                tail.chunks += chunks
                tail.size += sum([len(chunk.data) for chunk in chunks])
        self._lasts.update(plan.lasts)
        for run_id in plan.ended:
            self._lasts.pop(run_id, None)
        if plan.segment:
            self._next_segment += 1

    def flush_all(self) -> list[Chunk]:
        """Return rows for all tails."""
        return [join_chunks(tail.chunks) for tail in self._tails.values()]

    def mark_all_flushed(self) -> None:
        """Clear the tails after the rows of `flush_all` were written."""
        with self._lock:
            self._tails.clear()

    def first_needed(self) -> int:
        """Return the oldest segment that must be kept."""
        return min((tail.segment_id for tail in self._tails.values()), default=self._next_segment)

    def forget(self, run_id: str) -> None:
        """Remove the tail of a deleted run."""
        with self._lock:
            self._tails.pop(run_id, None)
        self._lasts.pop(run_id, None)

    def of(self, run_id: str) -> Sequence[Chunk]:
        """Return the run's tail.

        Call it before reading rows: chunks that become rows in between are then found twice, not missed.
        """
        with self._lock:
            tail = self._tails.get(run_id)
            return tuple(tail.chunks) if tail is not None else ()


def join_chunks(chunks: Sequence[Chunk]) -> Chunk:
    """Join consecutive chunks into one. Frames are joined by concatenation."""
    if len(chunks) == 1:
        return chunks[0]
    data = b"".join([chunk.data for chunk in chunks])
    return Chunk(chunks[0].run_id, chunks[0].first, chunks[-1].last, data)


def encode(chunk: Chunk) -> tuple[bytes, bytes, bytes]:
    """Encode a chunk for a segment, as three parts."""
    run_id = chunk.run_id.encode()
    return _HEAD.pack(len(run_id), chunk.first, chunk.last, len(chunk.data)), run_id, chunk.data


def decode(segment: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a segment."""
    position = 0
    while position < len(segment):
        id_length, first, last, length = _HEAD.unpack_from(segment, position)
        position += _HEAD.size
        run_id = segment[position : position + id_length].decode()
        position += id_length
        yield Chunk(run_id, first, last, segment[position : position + length])
        position += length
