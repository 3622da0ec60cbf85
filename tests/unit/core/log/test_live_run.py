"""Live run: what it gives to a commit, and its notifications of readers."""

import asyncio
from collections.abc import Callable
from typing import Any

from support.engine import Disk, request

from portico.agent import AgentApp, Status
from portico.core.budgets import BudgetLimit
from portico.core.convert.events import ProtoEncoder
from portico.core.execution.execution import Execution
from portico.core.log.live_run import LiveRun
from portico.core.stores.ports.stores import Stores
from portico.v1 import events_pb2

Engines = Callable[..., Any]


class Dirty:
    """A committer that records the runs added to it."""

    def __init__(self) -> None:
        self.runs: list[LiveRun] = []

    def add(self, run: LiveRun) -> None:
        self.runs.append(run)


def test_a_run_is_dirty_once_until_its_news_is_taken() -> None:
    dirty = Dirty()
    run = LiveRun("r", request("hi"), dirty, created_at=1.0)
    for news in (run.change_record, lambda: run.append(b"event")):
        dirty.runs.clear()
        news()
        news()
        assert dirty.runs == [run]
        run.take_pending()
    dirty.runs.clear()
    run.append(b"event")
    run.change_record()
    assert dirty.runs == [run]
    chunks, changed, messages = run.take_pending()
    assert ([(chunk.first, chunk.last) for chunk in chunks], changed, messages) == ([(2, 2)], True, [])
    assert run.take_pending() == ((), False, [])


async def test_a_record_that_changes_without_events_is_written(engine_of: Engines, stores: Stores) -> None:
    app = AgentApp("test")
    begun = asyncio.Event()

    @app.query
    async def query() -> Any:
        yield "x"
        begun.set()
        await asyncio.sleep(600)

    disk = Disk(stores)
    engine = await engine_of(app)
    execution = engine.admit_now(request("go", background=True, budget=events_pb2.Budget(tool_calls=5)))
    assert isinstance(execution, Execution)
    run, quotas = execution.run, execution.run.budget_tracker
    assert quotas is not None
    await asyncio.wait_for(begun.wait(), 30)
    await run.wait_published(run.next_sequence_number - 1)
    await run.wait_until(lambda: run.recorded == run.changes)
    disk.commits.clear()
    assert quotas.try_count(BudgetLimit.TOOL_CALLS)  # as a call of a child run does
    assert run.recorded < run.changes
    await asyncio.wait_for(run.wait_until(lambda: run.recorded == run.changes), 30)
    [commit] = disk.commits
    assert (commit.chunks, commit.messages) == ([], [])
    kept = ProtoEncoder().load_budget((await stores.runs.get(run.run_id)).summary)
    assert kept is not None
    assert kept[1].tool_calls == 1
    assert run.status is Status.IN_PROGRESS
