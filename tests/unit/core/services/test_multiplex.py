"""A link carries many streams: each has every event once and in order, within its flow-control window, and
none stalls.

PORTICO_FUZZ_EXAMPLES is the number of random courses of events; without it they are the same each time.
"""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.multiplex_connection import ASK, END, LinkWorld, MovedLoop, Stream

from portico.core.services.multiplex import WINDOW_BYTES

EXAMPLES = int(os.environ.get("PORTICO_FUZZ_EXAMPLES", "40"))
DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]
OUT_OF_RANGE = grpc.StatusCode.OUT_OF_RANGE.value[0]
T = TypeVar("T")
RUNS = 4
BYTES = 4_000_000  # most output of agents in one course

sizes = st.lists(st.sampled_from((1, 700, 9_000, 60_000, 70_000, 300_000)), min_size=1, max_size=6)
timeouts = st.sampled_from((None, None, None, 0.0, 5.0, 60.0))


def pick(data: st.DataObject, among: list[T]) -> T:
    """Identified by its index: ids differ each time."""
    return among[data.draw(st.integers(0, len(among) - 1))]


class Course(RuleBasedStateMachine):
    """Operations on a link, in any order."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner(loop_factory=MovedLoop)
        self.world = LinkWorld()
        self.do(self.world.start())
        self.live: list[str] = []  # agents that wait for input
        self.paused: list[str] = []
        self.ended: list[str] = []
        self.deleted: set[str] = set()
        self.said = 0

    def do(self, work: Coroutine[Any, Any, object]) -> None:
        self.runner.run(work)

    @property
    def known(self) -> list[str]:
        return [*self.live, *self.paused, *self.ended]

    @property
    def open(self) -> list[Stream]:
        return [stream for stream in self.world.streams.values() if stream.open]

    @precondition(lambda self: len(self.known) < RUNS)
    @rule()
    def a_run_begins(self) -> None:
        async def work() -> None:
            self.live.append(self.world.begin())

        self.do(work())

    @precondition(lambda self: len(self.known) < RUNS and not self.world.held)
    @rule(timeout=timeouts)
    def a_query_begins(self, timeout: float | None) -> None:
        async def work() -> None:
            stream = self.world.query(timeout=timeout)
            await self.world.settled()
            if stream.run_id:
                self.live.append(stream.run_id)

        self.do(work())

    @precondition(lambda self: self.known)
    @rule(data=st.data(), timeout=timeouts)
    def somebody_watches(self, data: st.DataObject, timeout: float | None) -> None:
        async def work() -> None:
            run_id = pick(data, self.known)
            last = await self.world.stores.runs.last(run_id)
            self.world.watch(run_id, data.draw(st.integers(-1, last.last if last else -1)), timeout=timeout)

        self.do(work())

    @precondition(lambda self: self.live and self.said < BYTES)
    @rule(data=st.data(), sizes=sizes)
    def an_agent_says(self, data: st.DataObject, sizes: list[int]) -> None:
        self.world.tell(pick(data, self.live), *("x" * size for size in sizes))
        self.said += sum(sizes)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def an_agent_asks(self, data: st.DataObject) -> None:
        run_id = pick(data, self.live)
        self.live.remove(run_id)
        self.paused.append(run_id)
        self.world.tell(run_id, ASK)

    @precondition(lambda self: self.paused)
    @rule(data=st.data())
    def an_agent_is_answered(self, data: st.DataObject) -> None:
        run_id = pick(data, self.paused)
        self.paused.remove(run_id)
        self.live.append(run_id)
        self.do(self.world.answer(run_id))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def an_agent_ends(self, data: st.DataObject) -> None:
        run_id = pick(data, self.live)
        self.live.remove(run_id)
        self.ended.append(run_id)
        self.world.tell(run_id, END)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def a_run_is_deleted(self, data: st.DataObject) -> None:
        run_id = pick(data, self.ended)
        self.ended.remove(run_id)
        self.deleted.add(run_id)
        self.do(self.world.engine.delete(run_id))

    # While nothing is read from the link, the test can't know which frames it has made.
    @precondition(lambda self: self.open and not self.world.held)
    @rule(data=st.data(), share=st.sampled_from((1.0, 0.3, 5.0, 0.0, -1.0)))
    def a_caller_pays(self, data: st.DataObject, share: float) -> None:
        stream = pick(data, self.open)
        self.world.pay(stream, round(share * (stream.taken or WINDOW_BYTES)))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def a_caller_stops(self, data: st.DataObject) -> None:
        self.do(self.world.halt(pick(data, self.open)))

    @rule(seconds=st.sampled_from((4.0, 30.0)))
    def time_goes_by(self, seconds: float) -> None:
        async def work() -> None:
            self.world.move_on(seconds)

        self.do(work())

    @rule()
    def the_connection_stands(self) -> None:
        self.world.hold()

    @precondition(lambda self: self.world.held)
    @rule()
    def the_connection_goes_on(self) -> None:
        self.world.release()

    @invariant()
    def nobody_stalls(self) -> None:
        self.do(self.world.settled())

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        with self.runner:
            self.do(self._end())

    async def _end(self) -> None:
        """Grants every stream its window until every log has ended; then every stream has all events."""
        world = self.world
        try:
            world.release()
            await world.settled()
            for run_id in self.paused:
                await world.answer(run_id)
            world.tell_all(END)
            await world.settled()
            while self.open:
                for stream in self.open:
                    world.pay(stream, stream.taken)
                await world.settled()
            for stream in world.streams.values():
                await self._whole(stream)
        finally:
            await world.stop()

    async def _whole(self, stream: Stream) -> None:
        if stream.end is not None and stream.end.code == NOT_FOUND:
            assert stream.run_id in self.deleted
        elif stream.end is not None and stream.end.code:
            assert (stream.end.code, stream.due is not None) == (DEADLINE_EXCEEDED, True)
        if stream.run_id and stream.run_id not in self.deleted:
            await self.world.check(stream)


TestCourses = Course.TestCase
TestCourses.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    derandomize="PORTICO_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("way", ["stops", "has no time left", "is gone", "is cut"])
def test_a_run_is_given_up_once_its_reader_has_left(way: str) -> None:
    async def course() -> None:
        world = LinkWorld(reader_grace_seconds=100)
        await world.start()
        try:
            stream = world.query(timeout=500)
            await world.settled()
            world.move_on(200)
            await world.settled()
            run = world.engine.live(stream.run_id)
            assert run is not None, "a run with a reader continues"
            match way:
                case "stops":
                    await world.halt(stream)
                case "has no time left":
                    world.move_on(301)
                    await world.settled()
                    assert stream.end is not None
                    assert stream.end.code == DEADLINE_EXCEEDED
                case "is gone":
                    await world.close()
                case _:
                    world.drain.interrupt_all()
                    await world.settled()
                    assert stream.end is not None
                    assert stream.end.reason == "DRAINING"
            world.move_on(99)
            await world.settled()
            assert not run.is_terminal_durable
            world.move_on(2)
            await world.settled()
            assert run.is_terminal_durable
            assert run.error is not None
            assert run.error.code == "reader_gone"
        finally:
            await world.stop()

    with asyncio.Runner(loop_factory=MovedLoop) as runner:
        runner.run(course())


def test_a_run_keeps_no_stream_that_has_ended() -> None:
    async def course() -> None:
        world = LinkWorld()
        await world.start()
        try:
            run_id = world.begin()
            await world.settled()
            run = world.engine.live(run_id)
            assert run is not None
            before = len(run._subscribers)
            stopped, _overdue, _left = [world.watch(run_id, timeout=timeout) for timeout in (None, 5.0, None)]
            await world.settled()
            assert len(run._subscribers) == before + 3
            await world.halt(stopped)
            assert len(run._subscribers) == before + 2
            world.move_on(6)
            await world.settled()
            assert len(run._subscribers) == before + 1
            await world.close()
            assert len(run._subscribers) == before
        finally:
            await world.stop()

    with asyncio.Runner(loop_factory=MovedLoop) as runner:
        runner.run(course())


def test_what_cannot_be_opened_ends_its_stream_only() -> None:
    async def course() -> None:
        world = LinkWorld()
        await world.start()
        try:
            run_id = world.begin()
            await world.settled()
            refused = [world.watch("resp_nobody"), world.watch(run_id, 1_000)]
            good = world.watch(run_id)
            await world.settled()
            assert [stream.end and stream.end.code for stream in refused] == [NOT_FOUND, OUT_OF_RANGE]
            assert good.open
            assert good.events
            world.tell(run_id, END)
            await world.settled()
            assert good.end is not None
            assert good.end.code == 0
        finally:
            await world.stop()

    with asyncio.Runner(loop_factory=MovedLoop) as runner:
        runner.run(course())


def test_credit_widens_no_window_beyond_its_size() -> None:
    async def course() -> None:
        world = LinkWorld()
        await world.start()
        try:
            run_id = world.begin()
            stream = world.watch(run_id)
            await world.settled()
            for _ in range(3):
                world.pay(stream, 10 * WINDOW_BYTES)
            await world.settled()
            world.tell(run_id, *["x" * 9_000] * 100, END)
            await world.settled()
            assert stream.open
            assert stream.credit <= 0
            while stream.open:
                world.pay(stream, stream.taken)
                await world.settled()
            await world.check(stream)
        finally:
            await world.stop()

    with asyncio.Runner(loop_factory=MovedLoop) as runner:
        runner.run(course())


def test_a_stream_that_is_behind_goes_on_without_news_of_its_run() -> None:
    async def course() -> None:
        world = LinkWorld()
        await world.start()
        try:
            run_id = world.begin()
            await world.settled()
            world.tell(run_id, *["x" * 9_000] * 20)
            await world.settled()
            early = world.watch(run_id)  # of a run without output meanwhile
            await world.settled()
            assert len(early.events) >= 20
            world.tell(run_id, END)
            await world.settled()
            late = world.watch(run_id)  # from the store
            await world.settled()
            for stream in (early, late):
                while stream.open:
                    world.pay(stream, stream.taken)
                    await world.settled()
                await world.check(stream)
            assert len(late.events) == len(early.events)
        finally:
            await world.stop()

    with asyncio.Runner(loop_factory=MovedLoop) as runner:
        runner.run(course())
