"""Recovery: each execution counts as an attempt, and none begins before it is counted."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from support.engine import Disk, request

from portico.agent import AgentApp, Budget, Context, Message, Role, Status, TextContent
from portico.core.budgets import BudgetLimit, BudgetTracker
from portico.core.convert.events import ProtoEncoder
from portico.core.execution.execution import Execution
from portico.core.hosts.local.local_host import LocalHost
from portico.core.log.committer import GroupCommitter
from portico.core.log.live_run import LiveRun
from portico.core.runs import recovery as module
from portico.core.runs.recovery import MAX_ATTEMPTS, Recovery
from portico.core.runs.run_engine import RunEngine
from portico.core.stores.ports.stores import Chunk, Commit, RunRecord, Stores
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

Engines = Callable[..., Any]
SESSION = query_pb2.AgentRequest(user_id="u", session_id="s")


def agent(attempts: list[tuple[str, int]]) -> AgentApp:
    """Records each execution, and does not end by itself."""
    app = AgentApp("test", on_restart="rerun")

    @app.query
    async def query(msgs: Any, context: Context) -> Any:
        attempts.append((msgs[-1].text, context.attempt))
        yield "x"
        await asyncio.sleep(30)

    return app


def launch(engine: RunEngine, text: str) -> Execution:
    policy = query_pb2.SESSION_BUSY_POLICY_ENQUEUE
    launched = engine.admit_now(request(text, request=SESSION, background=True, if_session_busy=policy))
    assert isinstance(launched, Execution)
    return launched


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("status", ["created", "queued"])
async def test_an_attempt_that_never_began_is_not_counted(
    engine_of: Engines, stores: Stores, status: str
) -> None:
    attempts: list[tuple[str, int]] = []
    engine = await engine_of(agent(attempts))
    run = launch(engine, "go").run
    await run.wait_published(1)
    await engine.stop()
    # The state left by a process that died before the last attempt began.
    record = replace(await stores.runs.get(run.run_id), status=status, attempt=MAX_ATTEMPTS)
    await stores.runs.commit(Commit([record]))
    engine = await engine_of(agent(attempts))
    await until(lambda: len(attempts) == 2)
    assert attempts[1] == ("go", MAX_ATTEMPTS)
    await engine.stop()
    await engine_of(agent(attempts))
    assert (await stores.runs.get(run.run_id)).status == Status.FAILED


async def test_a_queued_run_waits_through_any_number_of_crashes(engine_of: Engines, stores: Stores) -> None:
    attempts: list[tuple[str, int]] = []
    engine = await engine_of(agent(attempts))
    first, second = launch(engine, "first").run.run_id, launch(engine, "second").run.run_id
    for number in range(1, MAX_ATTEMPTS + 1):
        await until(lambda number=number: len(attempts) == number)  # type: ignore[misc]
        await engine.live(second).wait_published(1)
        await engine.stop()
        engine = await engine_of(agent(attempts))
    assert (await stores.runs.get(first)).status == Status.FAILED
    await until(lambda: attempts[-1][0] == "second")
    assert attempts == [*(("first", number) for number in range(1, MAX_ATTEMPTS + 1)), ("second", 1)]


async def test_an_attempt_is_durable_before_the_agent_can_bring_the_core_down(
    engine_of: Engines, stores: Stores
) -> None:
    attempts: list[tuple[str, int]] = []
    disk = Disk(stores)
    engine = await engine_of(agent(attempts))
    run = launch(engine, "go").run
    await run.wait_published(1)
    await engine.stop()
    disk.refuses = True
    engine = await engine_of(agent(attempts))
    await asyncio.sleep(0.05)
    assert attempts == [("go", 1)]
    disk.refuses = False
    await until(lambda: len(attempts) == 2)
    assert attempts[1] == ("go", 2)
    assert (await stores.runs.get(run.run_id)).attempt == 2


class Aftermath:
    """Runs of a killed core, and the recovery in the next core."""

    def __init__(self, stores: Stores, *apps: AgentApp) -> None:
        self.stores = stores
        self.encoder = ProtoEncoder()
        self.committer = GroupCommitter(stores.runs, self.encoder)
        self.recovery = Recovery(LocalHost(apps), stores.runs, self.encoder, self.committer)

    async def leave(
        self,
        run_id: str,
        status: str,
        *,
        at: float = 1.0,
        since: float | None = None,
        agent: str = "test",
        answers: bytes = b"",
        **about: Any,
    ) -> None:
        """Stores a run with one event, in its first attempt by default."""
        attempt = about.setdefault("attempt", 1)
        summary = pb.Response(id=run_id, **about).SerializeToString()
        start = request("hi", request=SESSION)
        frame = query_pb2.QueryResponse()
        frame.events.add(sequence_number=0).response.CopyFrom(pb.Response(id=run_id, attempt=attempt))
        updated_at = at if since is None else since
        record = RunRecord(
            *(run_id, agent, "u", "s", status, at, updated_at, 0, attempt, True, None),
            *(start.payload, summary, answers),
        )
        await self.stores.runs.commit(Commit([record], [Chunk(run_id, 0, 0, frame.SerializeToString())]))

    async def taken_up(self, run_id: str, parent: LiveRun | None = None) -> LiveRun | None:
        for left in await self.recovery.find_unfinished():
            if left.record.run_id == run_id:
                taken = await self.recovery.recover(left, parent)
                return None if taken is None else taken.run
        raise AssertionError(f"{run_id} is not to be taken up")

    async def failure(self, run_id: str) -> str:
        """The code of the run's failure."""
        last = await self.stores.runs.last(run_id)
        assert last is not None
        response = query_pb2.QueryResponse.FromString(last.data).events[-1].response
        assert response.status == pb.RUN_STATUS_FAILED
        return response.error.code


@pytest.fixture
async def aftermath(stores: Stores) -> AsyncIterator[Aftermath]:
    aftermath = Aftermath(stores, agent([]))
    aftermath.committer.start()
    yield aftermath
    await aftermath.committer.stop()


async def test_runs_that_wait_keep_their_turns_and_come_behind_those_that_started_them(
    aftermath: Aftermath,
) -> None:
    await aftermath.leave("early", "in_progress", at=1.0)
    await aftermath.leave("top", "in_progress", at=2.0)
    await aftermath.leave("middle", "in_progress", at=3.0, parent_run_id="top")
    await aftermath.leave("asks", "input_required", at=4.0, parent_run_id="middle")
    await aftermath.leave("works", "in_progress", at=5.0, parent_run_id="top")
    await aftermath.leave("orphan", "input_required", at=6.0, parent_run_id="gone")
    left = await aftermath.recovery.find_unfinished()
    assert [(each.record.run_id, each.waits, each.parent_run_id) for each in left] == [
        ("top", True, ""),
        ("middle", True, "top"),
        ("asks", True, "middle"),
        ("orphan", True, "gone"),
        ("early", False, ""),
        ("works", False, "top"),
    ]
    assert [each.has_started for each in left] == [True] * 6


async def test_a_run_goes_on_behind_what_its_log_has(aftermath: Aftermath) -> None:
    await aftermath.leave("r", "in_progress", at=5.0)
    run = await aftermath.taken_up("r")
    assert run is not None
    assert (run.next_sequence_number, run.published, run.was_recovered) == (1, 0, True)
    assert (run.created_at, run.attempt, run.status) == (5.0, 2, Status.IN_PROGRESS)
    assert run.record is not None
    assert run.paused_at is None
    await aftermath.leave("q", "queued")
    queued = await aftermath.taken_up("q")
    assert queued is not None
    assert (queued.attempt, queued.status) == (1, Status.QUEUED)


async def test_a_run_that_waits_is_as_it_was(aftermath: Aftermath) -> None:
    ask = pb.InputRequest(id="input_1", prompt="Well?", kind=pb.INPUT_KIND_INPUT)
    answers = aftermath.encoder.answers([[Message(Role.USER, (TextContent("yes"),))], ()])
    await aftermath.leave(
        "r", "input_required", at=5.0, since=8.0, input_request=ask, repeated_answers=1, answers=answers
    )
    run = await aftermath.taken_up("r")
    assert run is not None
    assert run.ask is not None
    assert (run.ask.id, run.repeated_answers, run.answers_payload) == ("input_1", 1, answers)
    assert (run.paused_at, run.created_at, run.status_at, run.attempt) == (0, 5.0, 8.0, 1)


@pytest.mark.parametrize("answered", [0, 2])
async def test_each_answer_is_an_attempt_that_no_crash_is_counted_for(
    aftermath: Aftermath, answered: int
) -> None:
    given = [[Message(Role.USER, (TextContent("yes"),))]] * answered
    answers = aftermath.encoder.answers([*given, ()])
    most = MAX_ATTEMPTS + answered
    await aftermath.leave("once", "in_progress", attempt=most - 1, answers=answers)
    await aftermath.leave("over", "in_progress", attempt=most, answers=answers)
    run = await aftermath.taken_up("once")
    assert run is not None
    assert run.attempt == most
    assert await aftermath.taken_up("over") is None
    assert await aftermath.failure("over") == "core_restarted"


async def test_a_run_of_an_agent_that_is_gone_has_failed(aftermath: Aftermath) -> None:
    await aftermath.leave("r", "input_required", agent="nobody")
    assert await aftermath.taken_up("r") is None
    assert await aftermath.failure("r") == "agent_gone"


async def test_a_child_goes_on_only_if_it_waits_and_its_parent_does(aftermath: Aftermath) -> None:
    for run_id, status in (("asks", "input_required"), ("works", "in_progress"), ("queued", "queued")):
        await aftermath.leave(run_id, status, parent_run_id="top")
    start = request("hi", request=SESSION)
    parent = LiveRun(
        "top", start, aftermath.committer, created_at=1.0, quotas=BudgetTracker(Budget(tokens=5))
    )
    assert await aftermath.taken_up("asks", parent) is not None
    for run_id, above in (("works", parent), ("queued", parent), ("asks", None)):
        assert await aftermath.taken_up(run_id, above) is None
        assert await aftermath.failure(run_id) == "core_restarted"


@pytest.mark.parametrize(
    ("status", "waited"), [("in_progress", 50.0), ("input_required", 0.0), ("queued", 0.0)]
)
async def test_the_time_since_a_run_was_cut_off_at_work_counts(
    aftermath: Aftermath, monkeypatch: pytest.MonkeyPatch, status: str, waited: float
) -> None:
    monkeypatch.setattr(time, "time", lambda: 150.0)
    budget = pb.Budget(tool_calls=3, wall_time=Duration(seconds=1_000))
    used = pb.BudgetUse(tool_calls=1, wall_time=Duration(seconds=7))
    parent = BudgetTracker(Budget(tool_calls=2))
    start = request("hi", request=SESSION)
    above = LiveRun("top", start, aftermath.committer, created_at=1.0, quotas=parent)
    await aftermath.leave("r", status, at=100.0, budget=budget, used=used)
    run = await aftermath.taken_up("r", above)
    assert run is not None
    assert run.budget_tracker is not None
    assert (run.budget_tracker.used().wall_time, run.budget_tracker.used().tool_calls) == (7.0 + waited, 1)
    assert run.budget_tracker.try_count(BudgetLimit.TOOL_CALLS)
    assert parent.used().tool_calls == 1
    # A clock that was set back does not reduce the time used.
    monkeypatch.setattr(time, "time", lambda: 50.0)
    run = await aftermath.taken_up("r")
    assert run is not None
    assert run.budget_tracker is not None
    assert run.budget_tracker.used().wall_time == 7.0
    await aftermath.leave("free", status)
    free = await aftermath.taken_up("free")
    assert free is not None
    assert free.budget_tracker is None


async def test_what_a_failed_run_had_said_is_read_from_its_whole_log(
    aftermath: Aftermath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_BYTES", 1)
    await aftermath.leave("r", "in_progress", attempt=MAX_ATTEMPTS)
    for number in range(1, 4):
        frame = query_pb2.QueryResponse()
        message = frame.events.add(sequence_number=number).message
        message.id, message.status = f"msg_{number}", pb.RUN_STATUS_COMPLETED
        await aftermath.stores.runs.commit(
            Commit(chunks=[Chunk("r", number, number, frame.SerializeToString())])
        )
    said = await aftermath.recovery.read_output("r")
    assert [finished.message.id for finished in said.finished] == ["msg_1", "msg_2", "msg_3"]
    assert await aftermath.taken_up("r") is None
    last = await aftermath.stores.runs.last("r")
    assert last is not None
    end = query_pb2.QueryResponse.FromString(last.data).events[-1]
    assert end.sequence_number == 4
    assert [message.id for message in end.response.output] == ["msg_1", "msg_2", "msg_3"]
