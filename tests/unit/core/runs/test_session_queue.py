"""Session queue: one run of a session at a time, in order; sessions do not block each other."""

import pytest
from support.engine import request

from portico.core.log.live_run import LiveRun
from portico.core.runs.session_queue import SessionQueue


class Nobody:
    """A committer that commits nothing."""

    def add(self, run: LiveRun) -> None:
        pass


def run(run_id: str, session_id: str = "s", user_id: str = "ada") -> LiveRun:
    start = request("hi", request={"user_id": user_id, "session_id": session_id})
    return LiveRun(run_id, start, Nobody(), created_at=1.0)


@pytest.fixture
def lanes() -> SessionQueue:
    return SessionQueue()


def test_who_waits_executes_in_order_once_those_before_have_left(lanes: SessionQueue) -> None:
    first, second, third = (run(name) for name in ("r1", "r2", "r3"))
    lanes.enter(first)
    lanes.enqueue(second)
    lanes.enqueue(third)
    assert lanes.blocking_run(first.session) is first
    assert lanes.active(first.session) == [first]
    assert lanes.release(first) is second
    assert (lanes.active(first.session), lanes.blocking_run(first.session)) == ([second], second)
    assert lanes.release(second) is third
    assert lanes.release(third) is None
    assert (lanes.active(first.session), lanes.blocking_run(first.session)) == ([], None)


def test_who_runs_beside_another_lets_nobody_in(lanes: SessionQueue) -> None:
    first, beside, waiting = (run(name) for name in ("r1", "r2", "r3"))
    lanes.enter(first)
    lanes.enter(beside)
    lanes.enqueue(waiting)
    assert lanes.blocking_run(first.session) is first
    assert lanes.release(first) is None
    assert lanes.active(first.session) == [beside]
    assert lanes.release(beside) is waiting


def test_who_leaves_the_queue_is_let_in_no_more(lanes: SessionQueue) -> None:
    first, second, third = (run(name) for name in ("r1", "r2", "r3"))
    lanes.enter(first)
    lanes.enqueue(second)
    lanes.enqueue(third)
    assert lanes.release(second) is None
    assert lanes.active(first.session) == [first]
    assert lanes.release(first) is third
    assert lanes.release(third) is None


def test_a_queue_without_anybody_before_it_is_in_the_way_too(lanes: SessionQueue) -> None:
    waiting = run("r1")
    lanes.enqueue(waiting)
    lanes.enqueue(run("r2"))
    assert lanes.blocking_run(waiting.session) is waiting
    assert lanes.active(waiting.session) == []


def test_others_are_those_that_execute_and_those_that_wait(lanes: SessionQueue) -> None:
    first, second = run("r1"), run("r2")
    assert not lanes.has_other_run(first.session, "r1")
    lanes.enter(first)
    assert not lanes.has_other_run(first.session, "r1")
    assert lanes.has_other_run(first.session, "r2")
    lanes.enqueue(second)
    assert lanes.has_other_run(first.session, "r1")
    assert lanes.has_other_run(first.session, "r2")


def test_sessions_of_others_are_apart_and_what_is_empty_is_forgotten(lanes: SessionQueue) -> None:
    runs = [run("r1"), run("r2", "other"), run("r3", user_id="bob")]
    for each in runs:
        assert lanes.blocking_run(each.session) is None
        lanes.enter(each)
    assert [lanes.active(each.session) for each in runs] == [[each] for each in runs]
    for each in runs:
        assert lanes.release(each) is None
    assert not lanes._lanes
