"""Tails: chunks that are only in segments are found, become rows, and survive a crash, in any order."""

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.core.stores.ports.stores import Chunk, Commit, RunRecord
from portico.core.stores.sqlite.database_file import SqliteFile
from portico.core.stores.sqlite.log import unflushed_chunks
from portico.core.stores.sqlite.log.run_log import SqliteRunLog
from portico.core.stores.sqlite.migrate import migrate

RUN = RunRecord("r", "a", "u", "s", "in_progress", 1, 1, 0, 1, False, None, b"", b"")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 400)), max_size=6)),
        st.tuples(st.just("end"), st.integers(0, 3)),
        st.tuples(st.just("crash"), st.none()),
        st.tuples(st.just("close"), st.none()),
        st.tuples(st.just("repeat"), st.none()),
    ),
    max_size=30,
)


class Model:
    """The expected content of the log."""

    def __init__(self) -> None:
        self.data: dict[str, list[bytes]] = {}
        self.ended: set[str] = set()


async def play(directory: Path, plan: list[tuple[str, object]]) -> None:
    file = SqliteFile(directory / "x.db", "off")
    await asyncio.to_thread(migrate, file)
    log = SqliteRunLog(file)
    crashed: list[SqliteRunLog] = []
    model = Model()
    last_commit = Commit()
    for step, what in plan:
        if step == "append":
            assert isinstance(what, list)
            chunks, runs = [], []
            for number, size in what:
                run_id = f"r{number}"
                if run_id in model.ended:
                    continue
                if run_id not in model.data:
                    runs.append(replace(RUN, run_id=run_id))
                events = model.data.setdefault(run_id, [])
                chunks.append(Chunk(run_id, len(events), len(events), bytes([number]) * size))
                events.append(chunks[-1].data)
            last_commit = Commit(runs, chunks)
            await log.commit(last_commit)
        elif step == "end":
            run_id = f"r{what}"
            if run_id in model.data and run_id not in model.ended:
                model.ended.add(run_id)
                last_commit = Commit([replace(RUN, run_id=run_id, status="completed")])
                await log.commit(last_commit)
        elif step == "repeat":
            await log.commit(last_commit)
        elif step == "crash":
            crashed.append(log)  # its connections stay open, but are not used again
            log = SqliteRunLog(file)
        else:
            await log.close()
            log = SqliteRunLog(file)
        for run_id, events in model.data.items():
            assert b"".join(chunk.data for chunk in await log.read(run_id, -1, 2**30)) == b"".join(events)
            middle = len(events) // 2
            beyond = await log.read(run_id, middle, 1)
            assert bool(beyond) == (middle < len(events) - 1)
            assert not beyond or beyond[0].first <= middle + 1 <= beyond[0].last
            last = await log.last(run_id)
            assert last is not None
            assert last.last == len(events) - 1
    await log.close()
    for old in crashed:
        old._reader.close()
        old._writer.close()
        old._checkpointer.close()
        old._reading.close()
        old._writing.close()


@settings(max_examples=60, deadline=None)
@given(steps, st.sampled_from([1, 600, 64 * 1024]), st.sampled_from([1, 4096]))
def test_every_event_is_read_once_and_in_order(
    plan: list[tuple[str, object]], tail_bytes: int, kept_segments: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        patch.setattr(unflushed_chunks, "MAX_UNFLUSHED_BYTES", tail_bytes)
        patch.setattr(unflushed_chunks, "MAX_SEGMENTS", kept_segments)
        asyncio.run(play(Path(directory), plan))


async def test_segments_go_when_nobody_needs_them(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "x.db")
    await asyncio.to_thread(migrate, file)
    log = SqliteRunLog(file)
    await log.commit(Commit([RUN, replace(RUN, run_id="idle")], [Chunk("idle", 0, 0, b"x")]))
    for number in range(6000):
        await log.commit(Commit(chunks=[Chunk("r", number, number, b"x" * 50)]))
    (count,) = log._fetch("SELECT count(*) FROM log_segments", ())[0]
    assert count < 4096 + 600
    assert await log.read("idle", -1, 10) == [Chunk("idle", 0, 0, b"x")]
    await log.close()


async def test_a_finished_run_is_one_row(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "x.db")
    await asyncio.to_thread(migrate, file)
    log = SqliteRunLog(file)
    await log.commit(Commit([RUN]))
    for number in range(200):
        await log.commit(Commit(chunks=[Chunk("r", number, number, b"x" * 50)]))
    await log.commit(Commit([replace(RUN, status="completed")], [Chunk("r", 200, 200, b"end")]))
    assert [(chunk.first, chunk.last) for chunk in await log.read("r", -1, 1)] == [(0, 200)]
    await log.close()
