"""Budgets and child runs over gRPC, with the operator's limits."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.identity import Callers, guarded_core

from portico.agent import AgentApp, Context, Message, tool_call
from portico.client import Client, PorticoError
from portico.v1 import events_pb2 as pb
from portico.v1 import sandbox_pb2

WAITING = [pb.RUN_STATUS_QUEUED, pb.RUN_STATUS_IN_PROGRESS, pb.RUN_STATUS_INPUT_REQUIRED]


def agent() -> AgentApp:
    """Instructions: `wait`, `call` (call a tool, then wait), `ask`, `box` (use a sandbox, then wait), or
    `child` with the child's instruction."""
    app = AgentApp("agent")

    @app.query
    async def query(msgs: Sequence[Message], context: Context) -> AsyncIterator[Any]:
        word, _, rest = msgs[-1].text.partition(" ")
        match word:
            case "child":
                await (await context.start_run(rest)).result()
            case "call":
                yield tool_call("x", {})
            case "box":
                yield await context.sandbox().sandbox_id()
            case "ask":
                yield context.input_required("Well?")
        yield "."
        await asyncio.sleep(60)

    return app


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Callers]:
    async with guarded_core(
        [agent()], tmp_path, run_tool_calls=7, sandbox_pool_size=0, sandbox_backend="local"
    ) as callers:
        yield callers


async def begun(client: Client, text: str, **options: Any) -> str:
    """The id of a run whose agent has started to wait."""
    stream = client.runs.query(text, background=True, **options)
    async for event in stream:
        if event.content.text or event.response.status == pb.RUN_STATUS_INPUT_REQUIRED:
            break
    return stream.run_id


async def test_a_run_that_a_client_starts_for_another_uses_of_its_budget(core: Callers) -> None:
    ada = await core.client("ada", "acme")
    parent = await begun(ada, "wait", budget={"tool_calls": 1, "wall_time": 50})
    child = await begun(ada, "call", parent_run_id=parent)
    told = (await ada.runs.get(child)).response
    assert (told.parent_run_id, told.user_id, told.budget.tool_calls) == (parent, "ada", 1)
    assert told.budget.wall_time.seconds <= 50
    used = (await ada.runs.get(parent)).response.used
    assert (used.tool_calls, used.child_runs) == (1, 1)
    assert used.wall_time.ToMilliseconds() > 0
    run = await ada.runs.start("call", parent_run_id=parent)
    end = [event async for event in ada.runs.watch(run.response.id)][-1].response
    assert (end.error.code, end.used.exceeded) == ("budget_exceeded", pb.BUDGET_LIMIT_TOOL_CALLS)
    above = [event async for event in ada.runs.watch(parent)][-1].response
    assert (above.error.code, above.used.exceeded) == ("budget_exceeded", pb.BUDGET_LIMIT_TOOL_CALLS)
    ended = [event async for event in ada.runs.watch(child)][-1].response
    assert (ended.status, ended.error.code) == (pb.RUN_STATUS_CANCELED, "parent_ended")


async def test_who_can_not_have_a_child_run_is_told_why(core: Callers) -> None:
    ada = await core.client("ada", "", "act-as")
    parent = await begun(ada, "wait", session_id="s", budget={"child_runs": 0})
    other = await begun(ada, "wait")
    queued = (await ada.runs.start("wait", session_id="s")).response.id
    for options, reason, about in (
        ({"parent_run_id": queued}, "RUN_NOT_STARTED", {"run_id": queued}),
        (
            {"parent_run_id": parent, "session_id": "s"},
            "SESSION_BUSY",
            {"session_id": "s", "run_id": parent},
        ),
        ({"parent_run_id": other, "user_id": "bob"}, "INVALID_ARGUMENT", {"field": "request.user_id"}),
        (
            {"parent_run_id": other, "previous_run_id": other},
            "INVALID_ARGUMENT",
            {"field": "previous_run_id"},
        ),
        ({"budget": {"tokens": -1}}, "INVALID_ARGUMENT", {"field": "budget.tokens"}),
        ({"budget": {"wall_time": 0}}, "INVALID_ARGUMENT", {"field": "budget.wall_time"}),
        ({"budget": {"wall_time": 10**7}}, "INVALID_ARGUMENT", {"field": "budget.wall_time"}),
        ({"parent_run_id": parent}, "LIMIT_EXCEEDED", {"limit": "child_runs"}),
    ):
        with pytest.raises(PorticoError) as refused:
            await ada.runs.start("wait", **options)
        assert (refused.value.reason, refused.value.metadata) == (reason, about)
    # Exceeding the budget ended the run.
    end = [event async for event in ada.runs.watch(parent)][-1].response
    assert end.error.message == "the run's budget of 0 child runs is used up"
    with pytest.raises(PorticoError) as refused:
        await ada.runs.start("wait", parent_run_id=parent)
    assert refused.value.reason == "RUN_TERMINAL"


async def test_a_sandbox_lives_no_longer_than_the_run_that_made_it_may(core: Callers) -> None:
    ada = await core.client("ada")
    run = await ada.runs.start("child box", budget={"wall_time": 40})
    async with asyncio.timeout(30):
        while not (boxes := [box async for box in ada.sandboxes.list()]):
            await asyncio.sleep(0.02)
    assert 0 < boxes[0].spec.ttl.seconds <= 40
    await ada.runs.cancel(run.response.id)


async def test_an_operator_lists_and_ends_everything_live(core: Callers) -> None:
    ada, carol = await core.client("ada", "acme"), await core.client("carol", "globex")
    live = {
        await begun(ada, "wait", session_id="s"),
        (await ada.runs.start("wait", session_id="s")).response.id,
        await begun(carol, "ask"),
        (await carol.runs.start("child box")).response.id,
    }
    boxes = {(await ada.sandboxes.create(sandbox_pb2.SandboxSpec())).sandbox_id}
    async with asyncio.timeout(30):
        while len(boxes) < 2:
            await asyncio.sleep(0.02)
            boxes |= {box.sandbox_id async for box in core.admin.sandboxes.list()}
    listed = [run.response async for run in core.admin.runs.list(statuses=WAITING)]
    assert live < {run.id for run in listed}
    assert [bool(run.parent_run_id) for run in listed].count(True) == 1
    for run in listed:
        try:
            await core.admin.runs.cancel(run.id)
        except PorticoError as error:
            assert error.reason == "RUN_TERMINAL"  # noqa: PT017 - a child run ends with its parent
    for sandbox_id in boxes:
        await core.admin.sandboxes.delete(sandbox_id)
    assert not [run async for run in core.admin.runs.list(statuses=WAITING)]
    assert not [box async for box in core.admin.sandboxes.list()]
    assert core.server._sandboxes.count == 0
    for run in listed:
        assert (await core.admin.runs.get(run.id)).response.status == pb.RUN_STATUS_CANCELED
