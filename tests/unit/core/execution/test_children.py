"""Child runs: their number, their session, and their end before the parent's end."""

import asyncio
from dataclasses import replace

import pytest
from support.engine import request

from portico.agent import Status
from portico.agent.child_runs import ChildRequest, RunResult
from portico.core.budgets import BudgetLimit, BudgetTracker
from portico.core.convert.events import ProtoEncoder
from portico.core.errors import LimitExceeded, RunTerminal, SessionBusy
from portico.core.execution import children as module
from portico.core.execution.children import ChildRuns, ChildRunStarter
from portico.core.log.encoding import RunRequest
from portico.core.log.live_run import LiveRun
from portico.model.messages import Budget, Message, Role, TextContent


class Nobody:
    """A committer that commits nothing."""

    def add(self, run: LiveRun) -> None:
        pass


class Child:
    """A child run's execution that ends when the test says so."""

    def __init__(self, run: LiveRun) -> None:
        self.run = run
        self.left = 0  # calls of detach_from_parent
        self.over = asyncio.Event()

    def detach_from_parent(self) -> None:
        self.left += 1

    async def wait_stopped(self) -> None:
        await self.over.wait()

    async def result(self) -> RunResult:
        return RunResult(self.run.run_id, Status.COMPLETED)

    async def cancel(self) -> None:
        self.over.set()


def start(session_id: str = "s", text: str = "hi", owner: str = "ada") -> RunRequest:
    return request(text, request={"user_id": owner, "session_id": session_id})


def run(run_id: str, session_id: str = "s", text: str = "hi", quotas: BudgetTracker | None = None) -> LiveRun:
    return LiveRun(run_id, start(session_id, text), Nobody(), created_at=1.0, quotas=quotas)


def test_a_child_in_the_session_of_a_run_above_it_would_wait_for_ever() -> None:
    top = ChildRuns(run("top", "s1"), None)
    below = ChildRuns(run("below", "s2"), top)
    for session_id, holder in (("s1", "top"), ("s2", "below")):
        with pytest.raises(SessionBusy) as caught:
            below.check(start(session_id))
        assert caught.value.metadata == {"session_id": session_id, "run_id": holder}
        below.check(replace(start(session_id), busy_policy="parallel"))
        below.check(start(session_id, owner="bob"))
    below.check(start("s3"))
    top.check(start("s2"))


def test_a_run_that_has_ended_or_stops_starts_no_more() -> None:
    ended = run("r")
    ended.status = Status.COMPLETED
    stopping = ChildRuns(run("r"), None)
    stopping.stop()
    for children in (ChildRuns(ended, None), stopping):
        with pytest.raises(RunTerminal):
            children.check(start("other"))


def test_so_many_children_are_live_at_once_of_all_below_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIVE_CHILDREN", 2)
    top = ChildRuns(run("top", "s1"), None)
    first, second = Child(run("first", "s2")), Child(run("second", "s3"))
    below = ChildRuns(first.run, top)
    top.add(first)
    below.check(start("s4"))
    below.add(second)
    for children in (top, below):
        with pytest.raises(LimitExceeded) as caught:
            children.check(start("s4"))
        assert caught.value.metadata["limit"] == "live_child_runs"
    below.remove(second)
    below.remove(second)  # it is removed already
    assert (top.has_any, below.has_any) == (True, False)
    for children in (top, below):
        children.check(start("s4"))
    top.add(Child(run("third", "s5")))
    with pytest.raises(LimitExceeded):
        below.check(start("s4"))


def test_what_an_earlier_attempt_asked_is_taken_once() -> None:
    children = ChildRuns(run("top"), None)
    kept = [Child(run("first", "s2", "one")), Child(run("second", "s3", "two"))]
    for child in kept:
        children.add_recovered(child)
    assert children.has_any
    assert children.find_repeat(start("s4", "three")) is None
    same = kept[1].run.start
    assert children.find_repeat(same) is kept[1]
    assert children.find_repeat(same) is None
    assert children.find_repeat(kept[0].run.start) is kept[0]


async def test_a_run_ends_once_its_children_have() -> None:
    children = ChildRuns(run("top"), None)
    pair = [Child(run("first", "s2")), Child(run("second", "s3"))]
    for child in pair:
        children.add(child)
    ending = asyncio.create_task(children.wait_all_stopped())
    for child in pair:
        await asyncio.sleep(0)
        assert not ending.done()
        assert child.left == 1
        child.over.set()
    await asyncio.wait_for(ending, 30)
    await asyncio.wait_for(ChildRuns(run("alone"), None).wait_all_stopped(), 30)


ASKED = ChildRequest((Message(Role.USER, (TextContent("hi"),)),))


async def test_an_agent_learns_of_its_child_once_that_is_durable() -> None:
    parent = run("top")
    child = Child(run("first", "s2"))
    starter = ChildRunStarter(parent, ProtoEncoder(), lambda start: child, ChildRuns(parent, None))
    starting = asyncio.create_task(starter(ASKED))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not starting.done()
    child.run.append(b"event")
    chunks, _, _ = child.run.take_pending()
    child.run.publish(chunks, Status.CREATED, None, 1.0)
    started = await asyncio.wait_for(starting, 30)
    assert (started.run_id, child.left) == ("first", 0)
    assert (await started.result()).run_id == "first"
    assert not child.over.is_set()
    await started.cancel()
    assert child.over.is_set()


async def test_an_agent_that_asks_again_gets_the_child_that_it_has() -> None:
    def refuse(start: RunRequest) -> Child:
        raise AssertionError("it has one")

    parent = run("top")
    children = ChildRuns(parent, None)
    encoder = ProtoEncoder()
    kept = Child(LiveRun("kept", encoder.child_request(ASKED, "top", parent.start), Nobody(), created_at=1.0))
    children.add_recovered(kept)
    started = await ChildRunStarter(parent, encoder, refuse, children)(ASKED)
    assert started.run_id == "kept"


async def test_a_child_that_nobody_learns_of_is_stopped() -> None:
    parent = run("top")
    child = Child(run("first", "s2"))
    starter = ChildRunStarter(parent, ProtoEncoder(), lambda start: child, ChildRuns(parent, None))
    starting = asyncio.create_task(starter(ASKED))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert starting.cancelled()
    assert child.left == 1


@pytest.mark.parametrize("spent", [False, True])
async def test_who_may_have_no_child_hears_it_unless_it_is_being_stopped_for_that(spent: bool) -> None:
    def refuse(start: RunRequest) -> Child:
        raise LimitExceeded("child_runs", "no more")

    quotas = BudgetTracker(Budget(child_runs=0))
    for limits in (None, quotas):
        parent = run("top", quotas=limits)
        if limits is not None and spent:
            assert not limits.try_count(BudgetLimit.CHILD_RUNS)
        starter = ChildRunStarter(parent, ProtoEncoder(), refuse, ChildRuns(parent, None))
        expected = asyncio.CancelledError if limits is not None and spent else LimitExceeded
        with pytest.raises(expected):
            await starter(ASKED)
