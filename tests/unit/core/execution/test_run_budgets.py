"""Budgets of runs: what counts, and how a run ends that exceeds its budget."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.engine import read, request

from portico.agent import AgentApp, Budget, Context, Message, Status, function_call, tool_call, usage
from portico.core.execution import children
from portico.core.execution.execution import Execution
from portico.core.runs.run_engine import RunEngine
from portico.core.runs.scheduler import RunLimits
from portico.core.stores.ports.stores import RunFilter, Stores
from portico.v1 import events_pb2 as pb

Engines = Callable[..., Any]


def agent(function: Callable[..., Any], **options: Any) -> AgentApp:
    app = AgentApp("test", **options)
    app.query(function)
    return app


def launch(engine: RunEngine, text: str = "go", **more: Any) -> Execution:
    launched = engine.admit_now(request(text, background=True, **more))
    assert isinstance(launched, Execution)
    return launched


async def last(engine: RunEngine, run_id: str) -> pb.Response:
    async with asyncio.timeout(10):
        while run_id in engine._live and engine.execution(run_id) is None:
            await asyncio.sleep(0.005)
        events = await read(await engine.watch(run_id, -1))
    return events[-1].response


async def test_a_call_too_many_is_neither_logged_nor_made(engine_of: Engines) -> None:
    made: list[int] = []
    cleaned: list[bool] = []

    async def query() -> Any:
        try:
            yield "I look it up. "
            for number in range(5):
                yield tool_call("search", {"n": number}, call_id=f"c{number}")
                made.append(number)
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    engine = await engine_of(agent(query))
    end = await last(engine, launch(engine, budget=pb.Budget(tool_calls=2)).run.run_id)
    assert (end.status, end.error.code) == (pb.RUN_STATUS_FAILED, "budget_exceeded")
    assert end.error.message == "the run's budget of 2 tool calls is used up"
    assert (end.used.tool_calls, end.used.exceeded) == (2, pb.BUDGET_LIMIT_TOOL_CALLS)
    assert made == [0, 1]
    assert cleaned == [True]
    kinds = [message.type for message in end.output]
    assert kinds == [pb.MESSAGE_TYPE_MESSAGE, *[pb.MESSAGE_TYPE_PLUGIN_CALL] * 2]


@pytest.mark.parametrize("calls", [0, 1])
async def test_calls_of_every_kind_count_and_none_may_be_allowed(engine_of: Engines, calls: int) -> None:
    async def query() -> Any:
        yield function_call("a", {})
        yield Message(type="component_call")  # type: ignore[arg-type]
        yield Message(type="mcp_call")  # type: ignore[arg-type]

    engine = await engine_of(agent(query))
    end = await last(engine, launch(engine, budget=pb.Budget(tool_calls=calls)).run.run_id)
    assert end.used.exceeded == pb.BUDGET_LIMIT_TOOL_CALLS
    assert len(end.output) == calls
    enough = await last(engine, launch(engine, budget=pb.Budget(tool_calls=3)).run.run_id)
    assert (enough.status, enough.used.tool_calls) == (pb.RUN_STATUS_COMPLETED, 3)
    assert not enough.used.exceeded


async def test_tokens_are_what_was_reported_and_the_report_is_kept(engine_of: Engines) -> None:
    async def query() -> Any:
        for _ in range(5):
            yield "word "
            yield usage(input_tokens=4, output_tokens=2)

    engine = await engine_of(agent(query))
    end = await last(engine, launch(engine, budget=pb.Budget(tokens=12)).run.run_id)
    assert end.error.message == "the run's budget of 12 tokens is used up"
    assert (end.used.tokens, end.usage.total_tokens) == (18, 18)
    assert end.used.exceeded == pb.BUDGET_LIMIT_TOKENS
    assert end.output[0].content[0].text == "word " * 3


async def test_time_ends_a_run_and_a_pause_does_not_count(engine_of: Engines) -> None:
    async def query(context: Context) -> Any:
        yield "before "
        await context.input_required("Well?")
        yield "after "
        await asyncio.sleep(30)

    engine = await engine_of(agent(query))
    execution = launch(engine, budget={"wall_time": {"nanos": 800_000_000}})
    await asyncio.wait_for(read(engine.read(execution)), 10)
    await asyncio.sleep(0.9)
    assert execution.paused
    await engine.resume(execution.run.run_id, "", [Message(content="yes")])  # type: ignore[arg-type]
    end = await last(engine, execution.run.run_id)
    assert (end.error.code, end.used.exceeded) == ("budget_exceeded", pb.BUDGET_LIMIT_WALL_TIME)
    assert [message.content[0].text for message in end.output] == ["before ", "after "]
    assert 790 <= end.used.wall_time.ToMilliseconds() < 5000


async def test_a_plain_function_hears_of_it_and_ends(engine_of: Engines) -> None:
    ended = threading.Event()

    def query(context: Context) -> Any:
        try:
            for _ in range(1000):
                yield tool_call("x", {})
        finally:
            assert context.cancelled
            ended.set()

    engine = await engine_of(agent(query))
    end = await last(engine, launch(engine, budget=pb.Budget(tool_calls=3)).run.run_id)
    assert end.error.code == "budget_exceeded"
    assert await asyncio.to_thread(ended.wait, 5)


async def test_nobody_has_more_than_the_operator_allows(engine_of: Engines) -> None:
    async def query() -> Any:
        yield "x"

    most = Budget(wall_time=60, tool_calls=5)
    engine = await engine_of(agent(query), budget=most)
    silent = await last(engine, launch(engine).run.run_id)
    assert (silent.budget.wall_time.seconds, silent.budget.tool_calls) == (60, 5)
    assert not silent.budget.HasField("tokens")
    greedy = await last(engine, launch(engine, budget=pb.Budget(tool_calls=9, tokens=7)).run.run_id)
    assert (greedy.budget.tool_calls, greedy.budget.tokens) == (5, 7)


async def test_a_run_without_a_budget_counts_nothing_and_says_nothing(engine_of: Engines) -> None:
    async def query() -> Any:
        yield tool_call("x", {})

    engine = await engine_of(agent(query))
    execution = launch(engine)
    assert execution.run.budget_tracker is None
    end = await last(engine, execution.run.run_id)
    assert not end.HasField("budget")
    assert not end.HasField("used")


async def test_what_was_used_is_not_forgotten_in_a_restart(
    engine_of: Engines, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work = asyncio.Event()

    async def query(context: Context) -> Any:
        yield usage(input_tokens=1)
        yield tool_call("x", {})
        yield tool_call("y", {})
        at_work.set()
        await asyncio.sleep(30)

    app = agent(query, on_restart="rerun")
    engine = await engine_of(app)
    run = launch(engine, budget=pb.Budget(tool_calls=3, tokens=100)).run
    await asyncio.wait_for(at_work.wait(), 5)
    await run.wait_published(run.next_sequence_number - 1)
    await engine.stop()
    # The core that recovers the run allows less; the budget granted to the run stays.
    engine = await engine_of(app, budget=Budget(tool_calls=1))
    end = await last(engine, run.run_id)
    assert (end.attempt, end.error.code) == (2, "budget_exceeded")
    assert (end.budget.tool_calls, end.used.tool_calls, end.used.tokens) == (3, 3, 2)
    assert [message.type for message in end.output] == [pb.MESSAGE_TYPE_PLUGIN_CALL]


async def test_time_goes_on_while_a_core_restarts(engine_of: Engines) -> None:
    async def query() -> Any:
        yield "x"
        await asyncio.sleep(30)

    app = agent(query, on_restart="rerun")
    engine = await engine_of(app)
    run = launch(engine, budget={"wall_time": {"seconds": 2}}).run
    await run.wait_published(2)
    await engine.stop()
    await asyncio.sleep(2)
    engine = await engine_of(app)
    began = asyncio.get_running_loop().time()
    end = await last(engine, run.run_id)
    assert end.used.exceeded == pb.BUDGET_LIMIT_WALL_TIME
    assert asyncio.get_running_loop().time() - began < 1.5


class Tree:
    """An agent whose input selects its behaviour: `child:` with a child run's input, or a call."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.app = AgentApp("tree", on_restart="rerun")
        self.app.query(self.query)

    async def query(self, msgs: Any, context: Context) -> Any:
        text = msgs[-1].text
        self.begun.append(text)
        try:
            if text.startswith("children:"):
                told = text.removeprefix("children:").split(",")
                started = []
                for each in told:
                    count = len(self.begun)
                    started.append(await context.start_run(each))
                    while len(self.begun) == count:
                        await asyncio.sleep(0.001)
                for child in started:
                    result = await child.result()
                    self.results.append(result)
                    yield result.text
            elif text.startswith("child:"):
                child = await context.start_run(text.removeprefix("child:"))
                result = await child.result()
                self.results.append(result)
                yield result.text
            elif text == "wait":
                yield "waiting"
                await asyncio.sleep(30)
            else:
                yield usage(output_tokens=10)
                for _ in range(int(text)):
                    yield tool_call("x", {})
                yield f"{text} calls"
        finally:
            self.ended.append(text)


@pytest.fixture
def tree() -> Tree:
    return Tree()


async def test_what_child_runs_use_counts_for_those_above_them(engine_of: Engines, tree: Tree) -> None:
    engine = await engine_of(tree.app)
    budget = pb.Budget(tool_calls=10, tokens=100, child_runs=5)
    execution = launch(engine, "children:2,child:3", budget=budget)
    end = await last(engine, execution.run.run_id)
    assert (end.status, end.output[0].content[0].text) == (pb.RUN_STATUS_COMPLETED, "2 calls3 calls")
    assert (end.used.tool_calls, end.used.tokens, end.used.child_runs) == (5, 20, 3)
    first = await last(engine, next(each for each in tree.results if each.text == "2 calls").run_id)
    assert first.parent_run_id == execution.run.run_id
    assert (first.user_id, first.session_id != end.session_id) == (end.user_id, True)
    assert first.budget.tool_calls <= 10
    assert first.budget.child_runs == 4  # the remaining budget
    assert first.used.tool_calls == 2


async def test_a_child_has_no_more_than_is_left(engine_of: Engines, tree: Tree) -> None:
    engine = await engine_of(tree.app)
    execution = launch(engine, "children:3,9", budget=pb.Budget(tool_calls=5))
    end = await last(engine, execution.run.run_id)
    assert (end.error.code, end.used.tool_calls) == ("budget_exceeded", 5)
    assert end.used.exceeded == pb.BUDGET_LIMIT_TOOL_CALLS
    page = await engine._stores.runs.list(RunFilter(), None, 10)
    ends = [await last(engine, record.run_id) for record in page]
    child = next(each for each in ends if each.parent_run_id and each.status == pb.RUN_STATUS_FAILED)
    assert (child.error.code, child.used.exceeded) == ("budget_exceeded", pb.BUDGET_LIMIT_TOOL_CALLS)
    assert not engine._live or all(each.run.is_terminal_durable for each in engine._live.values())
    assert sorted(tree.ended) == ["3", "9", "children:3,9"]


async def test_one_child_too_many_ends_the_run_and_its_children(engine_of: Engines, tree: Tree) -> None:
    engine = await engine_of(tree.app)
    execution = launch(engine, "children:wait,wait,wait", budget=pb.Budget(child_runs=2))
    end = await last(engine, execution.run.run_id)
    assert (end.error.code, end.used.exceeded) == ("budget_exceeded", pb.BUDGET_LIMIT_CHILD_RUNS)
    assert tree.ended.count("wait") == 2


@pytest.mark.parametrize("stop", ["cancel", "interrupt", "time"])
async def test_children_have_ended_before_a_stopped_parent_has(
    engine_of: Engines, tree: Tree, stop: str
) -> None:
    engine = await engine_of(tree.app)
    budget = {"wall_time": {"seconds": 60}} if stop == "time" else None
    execution = launch(engine, "child:child:wait", budget=budget)
    async with asyncio.timeout(30):
        while len(tree.begun) < 3:
            await asyncio.sleep(0.01)
    below = [each.run.run_id for each in engine._live.values() if each is not execution]
    if execution.run.budget_tracker is not None:
        execution.run.budget_tracker.exceed_wall_time()
    else:
        await getattr(engine, stop)(execution.run.run_id)
    end = await last(engine, execution.run.run_id)
    assert sorted(tree.ended) == ["child:child:wait", "child:wait", "wait"]
    for run_id in below:
        child = await last(engine, run_id)
        assert child.error.code == "parent_ended"
        assert child.completed_time.ToMicroseconds() <= end.completed_time.ToMicroseconds()


async def test_children_that_nobody_waits_for_end_with_their_parent(engine_of: Engines) -> None:
    ids: list[str] = []

    async def query(msgs: Any, context: Context) -> Any:
        if msgs[-1].text == "go":
            ids.append((await context.start_run("stay")).run_id)
            yield "done"
        else:
            await asyncio.sleep(30)

    engine = await engine_of(agent(query))
    end = await last(engine, launch(engine).run.run_id)
    assert end.status == pb.RUN_STATUS_COMPLETED
    child = await last(engine, ids[0])
    assert (child.status, child.error.code) == (pb.RUN_STATUS_CANCELED, "parent_ended")


async def test_children_are_not_taken_up_by_themselves(engine_of: Engines, tree: Tree) -> None:
    engine = await engine_of(tree.app)
    execution = launch(engine, "child:wait", budget=pb.Budget(child_runs=5))
    async with asyncio.timeout(30):
        while len(engine._live) < 2:
            await asyncio.sleep(0.01)
    child = next(each.run for each in engine._live.values() if each is not execution)
    await child.wait_published(3)
    await engine.stop()
    engine = await engine_of(tree.app)
    gone = await last(engine, child.run_id)
    assert (gone.status, gone.error.code) == (pb.RUN_STATUS_FAILED, "core_restarted")
    async with asyncio.timeout(30):
        while len(engine._live) < 2:
            await asyncio.sleep(0.01)
    again = engine._live[execution.run.run_id]
    assert again.run.budget_tracker is not None
    assert (again.run.attempt, again.run.budget_tracker.used().child_runs) == (2, 2)
    await engine.cancel(execution.run.run_id)


async def test_a_child_needs_no_turn_but_there_are_only_so_many(
    engine_of: Engines, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LIVE_CHILDREN", 2)
    engine = await engine_of(tree.app, runs=RunLimits(running=1))
    end = await last(engine, launch(engine, "child:child:1").run.run_id)
    assert end.status == pb.RUN_STATUS_COMPLETED
    end = await last(engine, launch(engine, "child:child:child:1").run.run_id)
    assert "LimitExceeded" in tree.results[-2].error.message
    assert end.status == pb.RUN_STATUS_COMPLETED


async def test_a_child_can_be_cancelled_and_the_parent_goes_on(engine_of: Engines) -> None:
    async def query(msgs: Any, context: Context) -> Any:
        if msgs[-1].text == "go":
            child = await context.start_run([Message(content="stay")], metadata={"a": 1})  # type: ignore[arg-type]
            await child.cancel()
            result = await child.result()
            yield f"{result.status}"
        else:
            await asyncio.sleep(30)

    engine = await engine_of(agent(query))
    end = await last(engine, launch(engine).run.run_id)
    assert end.output[0].content[0].text == Status.CANCELED.value
