"""Log reader: in every order of events and crashes, each reader gets every event exactly once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from portico.agent import AgentApp
from portico.core.convert.events import ProtoEncoder
from portico.core.convert.requests import start_request
from portico.core.hosts.local.local_host import LocalHost
from portico.core.log import live_run, reader
from portico.core.log.reader import LogReader
from portico.core.runs.recovery import MAX_ATTEMPTS
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import Commit, Stores
from portico.v1 import events_pb2, query_pb2

steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 40)),
        st.tuples(st.just("subscribe"), st.integers(0, 60)),
        st.tuples(st.just("read"), st.integers(0, 3)),
        st.tuples(st.just("settle"), st.integers(0, 5)),
        st.tuples(st.just("crash"), st.just(0)),
    ),
    max_size=25,
)


class Process:
    """An engine that can crash: what it has not committed by then is lost."""

    def __init__(self, stores: Stores, script: "asyncio.Queue[int | None]") -> None:
        self._stores = stores
        self._dead = asyncio.Event()
        app = AgentApp("scripted", on_restart="rerun")

        @app.query
        async def query() -> AsyncIterator[str]:
            while (count := await script.get()) is not None:
                for number in range(count):
                    yield f"{number} "

        log = _Mortal(stores.runs, self._dead)
        self.engine = RunEngine(LocalHost([app]), replace(stores, runs=log), ProtoEncoder())

    def die(self) -> None:
        self._dead.set()


class _Mortal:
    def __init__(self, log: Any, dead: asyncio.Event) -> None:
        self._log = log
        self._dead = dead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def commit(self, commit: Commit) -> None:
        if self._dead.is_set():
            await asyncio.Event().wait()
        await self._log.commit(commit)


class Follower:
    """A reader that reconnects after every crash with its last cursor."""

    def __init__(self, after: int) -> None:
        self.first = after + 1
        self.numbers: list[int] = []
        self.reader: LogReader | None = None

    @property
    def cursor(self) -> int:
        return self.numbers[-1] if self.numbers else self.first - 1

    async def attach(self, engine: RunEngine, run_id: str) -> None:
        self.reader = await engine.watch(run_id, self.cursor)

    async def read(self, frames: int) -> None:
        assert self.reader is not None
        for _ in range(frames):
            frame = self.reader.poll(200)
            if frame is None:
                frame = await self.reader.fetch(200)
            self.numbers += [e.sequence_number for e in query_pb2.QueryResponse.FromString(frame).events]


async def play(plan: list[tuple[str, int]]) -> None:
    stores = await open_stores("memory://")
    script: asyncio.Queue[int | None] = asyncio.Queue()
    process = Process(stores, script)
    await process.engine.start()
    query = query_pb2.QueryRequest(background=True)
    query.request.input.add(role=events_pb2.ROLE_USER).content.add(text="go")
    launched = await process.engine.admit(start_request(query))
    assert not isinstance(launched, str)
    run_id = launched.run.run_id
    await launched.run.wait_published(0)
    followers: list[Follower] = []
    lives = MAX_ATTEMPTS - 1  # after MAX_ATTEMPTS crashes the run would fail
    for step, size in plan:
        run = process.engine.live(run_id)
        assert run is not None
        if step == "append":
            script.put_nowait(size)
        elif step == "subscribe":
            follower = Follower(min(size, run.published))
            await follower.attach(process.engine, run_id)
            followers.append(follower)
        elif step == "read":
            for follower in followers:
                await follower.read(size)
        elif step == "settle":
            for _ in range(size):
                await asyncio.sleep(0)
        elif lives:
            lives -= 1
            process.die()
            script = asyncio.Queue()
            process = Process(stores, script)
            await process.engine.start()
            for follower in followers:
                await follower.attach(process.engine, run_id)
    script.put_nowait(None)
    run = process.engine.live(run_id)
    assert run is not None
    everything = Follower(-1)
    await everything.attach(process.engine, run_id)
    for follower in [*followers, everything]:
        assert follower.reader is not None
        async for frame in follower.reader.frames():
            events = query_pb2.QueryResponse.FromString(frame).events
            follower.numbers += [event.sequence_number for event in events]
        assert follower.numbers == list(range(follower.first, run.published + 1))
    ends = 0
    for chunk in await stores.runs.read(run_id, -1, 2**30):
        for event in query_pb2.QueryResponse.FromString(chunk.data).events:
            ends += event.response.HasField("completed_time")
    assert ends == 1
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await stores.close()


@settings(max_examples=150, deadline=None)
@given(steps, st.sampled_from([200, 2000, 256 * 1024]))
def test_every_reader_gets_every_event_once(plan: list[tuple[str, int]], ring_bytes: int) -> None:
    before = live_run.RECENT_BYTES, reader.READ_BYTES
    live_run.RECENT_BYTES = ring_bytes
    try:
        asyncio.run(play(plan))
    finally:
        live_run.RECENT_BYTES, reader.READ_BYTES = before
