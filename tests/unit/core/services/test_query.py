"""QueryService reports runs as the durable log has them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.engine import Disk
from support.serving import running_core

from portico.agent import AgentApp, Context, Message, new_message
from portico.client import Client, FailedPrecondition, InvalidArgument, NotFound
from portico.client.errors import Unavailable
from portico.core.server.core_server import CoreServer
from portico.core.stores.ports.stores import Commit, RunRecord
from portico.v1 import events_pb2, query_pb2


def agent() -> AgentApp:
    app = AgentApp("test")

    @app.query
    async def query(msgs: list[Message], context: Context) -> AsyncIterator[object]:
        yield "first"
        yield new_message()
        if msgs[-1].text == "ask":
            yield context.input_required("Go on?")
        yield "second"

    return app


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[CoreServer]:
    async with running_core([agent()], tmp_path, store=f"sqlite:///{tmp_path}/portico.db") as server:
        server._engine._limits = replace(server._engine._limits, store_seconds=0.2)
        yield server


@pytest.fixture
async def client(core: CoreServer) -> AsyncIterator[Client]:
    async with Client(core.addresses[0]) as client:
        yield client


def output(run: object) -> list[str]:
    return [each.content[0].text for each in run.response.output]  # type: ignore[attr-defined]


async def test_a_live_run_is_told_as_the_log_has_it(core: CoreServer, client: Client) -> None:
    run_id = (await client.runs.start("ask")).response.id
    events = [event async for event in client.runs.watch(run_id)]
    paused = await client.runs.get(run_id)
    assert paused.response.status == events_pb2.RUN_STATUS_INPUT_REQUIRED
    assert paused.response.input_request.prompt == "Go on?"
    assert (output(paused), paused.last_sequence_number) == (["first"], len(events) - 1)
    disk = Disk(core._stores)
    disk.refuses = True
    with pytest.raises(Unavailable):
        await client.runs.resume(run_id, "yes")
    execution = core._engine.execution(run_id)
    assert execution is not None
    assert execution.run.status.terminal
    assert await client.runs.get(run_id) == paused
    assert [run.response.status async for run in client.runs.list()] == [paused.response.status]
    disk.refuses = False
    after = paused.last_sequence_number
    ended = [event async for event in client.runs.watch(run_id, after=after)][-1]
    run = await client.runs.get(run_id)
    assert run.response == ended.response
    assert output(run) == ["first", "second"]
    assert run.last_sequence_number == ended.sequence_number


async def test_neither_a_start_nor_its_repeat_is_answered_before_the_run_is_stored(
    core: CoreServer, client: Client
) -> None:
    disk = Disk(core._stores)
    disk.refuses = True
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            await client.runs.start("say", idempotency_key="order-1")
        assert caught.value.reason == "STORE_UNAVAILABLE"
    assert [run async for run in client.runs.list()] == []
    disk.refuses = False
    async with asyncio.timeout(10):
        while core._engine._committer.failure is not None:
            await asyncio.sleep(0.01)
    run = await client.runs.start("say", idempotency_key="order-1")
    assert run.last_sequence_number >= 0
    assert [each.response.id async for each in client.runs.list()] == [run.response.id]


async def test_a_paused_run_is_told_after_a_restart_as_it_was_before(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/portico.db"
    async with (
        running_core([agent()], tmp_path, store=store) as core,
        Client(core.addresses[0]) as client,
    ):
        run_id = (await client.runs.start("ask")).response.id
        events = [event async for event in client.runs.watch(run_id)]
        before = await client.runs.get(run_id)
        assert (output(before), before.last_sequence_number) == (["first"], len(events) - 1)
    async with (
        running_core([agent()], tmp_path, store=store) as core,
        Client(core.addresses[0]) as client,
    ):
        after = await client.runs.get(run_id)
        assert after.response == before.response
        assert after.last_sequence_number == before.last_sequence_number
        disk = Disk(core._stores)
        disk.refuses = True
        core._engine._limits = replace(core._engine._limits, store_seconds=0.1)
        with pytest.raises(Unavailable):
            await client.runs.resume(run_id, "yes")
        assert (await client.runs.get(run_id)).response == before.response
        disk.refuses = False
        cursor = before.last_sequence_number
        ended = [event async for event in client.runs.watch(run_id, after=cursor)][-1]
        assert (await client.runs.get(run_id)).response == ended.response


# For each run: agent, user, session, status, and the times of its admission and its status.
LISTED = {
    "r1": ("a", "ada", "s1", "completed", 10.0, 50.0),
    "r2": ("b", "ada", "s1", "failed", 20.0, 40.0),
    "r3": ("a", "bob", "s1", "completed", 30.0, 30.5),
    "r4": ("a", "ada", "s2", "canceled", 40.0, 60.0),
}


@pytest.fixture
async def listed(core: CoreServer, client: Client) -> Client:
    records = [
        RunRecord(
            run_id, agent_name, user_id, session_id, status, created, updated, 0, 1, True, None, b"",
            events_pb2.Response(id=run_id).SerializeToString(),
        )
        for run_id, (agent_name, user_id, session_id, status, created, updated) in LISTED.items()
    ]  # fmt: skip
    await core._stores.runs.commit(Commit(records))
    return client


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({}, ["r4", "r3", "r2", "r1"]),
        ({"agent": "a"}, ["r4", "r3", "r1"]),
        ({"user_id": "ada"}, ["r4", "r2", "r1"]),
        ({"session_id": "s1"}, ["r3", "r2", "r1"]),
        ({"statuses": ["completed", "failed"]}, ["r3", "r2", "r1"]),
        ({"created_from": at(20)}, ["r4", "r3", "r2"]),
        ({"created_until": at(30)}, ["r2", "r1"]),
        ({"created_from": at(0), "created_until": at(0)}, []),
        ({"status_from": at(50)}, ["r4", "r1"]),
        ({"order": "status"}, ["r4", "r1", "r2", "r3"]),
        ({"order": "status", "user_id": "ada", "status_from": at(45)}, ["r4", "r1"]),
    ],
)
async def test_runs_are_listed_by_what_is_asked_of_them_in_pages(
    listed: Client, where: dict[str, Any], found: list[str]
) -> None:
    for size in (0, 1, 2):
        pages = listed.runs.list(**where, page_size=size)
        assert [run.response.id async for run in pages] == found
    page = await listed.runs.list(**where, page_size=1, with_total=True).page()
    assert (len(page.runs), page.total_size) == (min(len(found), 1), len(found))
    assert bool(page.next_page_token) == (len(found) > 1)
    assert (await listed.runs.list(**where).page()).total_size == 0


async def test_a_page_that_ends_with_the_last_run_is_the_last_page(listed: Client) -> None:
    page = await listed.runs.list(page_size=4).page()
    assert (len(page.runs), page.next_page_token) == (4, "")
    assert [run.last_sequence_number for run in page.runs] == [0] * 4
    assert page.runs[0].updated_time.ToNanoseconds() == 60_000_000_000


async def test_a_list_of_what_there_can_not_be_is_refused(listed: Client) -> None:
    call = listed.calls.connection.runs.ListRuns
    for request in (
        query_pb2.ListRunsRequest(statuses=[99]),  # type: ignore[list-item]
        query_pb2.ListRunsRequest(order=99),  # type: ignore[arg-type]
        query_pb2.ListRunsRequest(page_token="nonsense"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_is_asked_of_a_run_is_about_something(client: Client) -> None:
    run_id = (await client.runs.start("ask", user_id="ada", session_id="s")).response.id
    paused = [event async for event in client.runs.watch(run_id)][-1].sequence_number
    for call in (client.runs.resume(run_id, []), client.runs.steer(run_id, [])):
        with pytest.raises(InvalidArgument) as caught:
            await call
        assert caught.value.metadata["field"] == "input"
    runs = client.calls.connection.runs
    with pytest.raises(grpc.aio.AioRpcError, match="set run_id or session"):
        await runs.InterruptRun(query_pb2.InterruptRunRequest())
    with pytest.raises(FailedPrecondition):
        await client.runs.delete(run_id)
    resumed = await client.runs.resume(run_id, "yes")
    assert resumed.last_sequence_number == paused
    assert [event async for event in client.runs.watch(run_id)]
    with pytest.raises(FailedPrecondition, match="no live run"):
        await client.runs.interrupt_session(session_id="s", user_id="ada")
    await client.runs.delete(run_id)
    with pytest.raises(NotFound):
        await client.runs.get(run_id)


async def test_what_executes_in_a_session_is_interrupted_and_told(client: Client) -> None:
    run_id = (await client.runs.start("ask", user_id="ada", session_id="s")).response.id
    other = (await client.runs.start("ask", user_id="ada", session_id="t")).response.id
    for each in (run_id, other):
        assert [event async for event in client.runs.watch(each)]
    [run] = await client.runs.interrupt_session(session_id="s", user_id="ada")
    assert run.response.id == run_id
    assert run.response.HasField("completed_time")
    assert not (await client.runs.get(other)).response.HasField("completed_time")
    assert (await client.runs.interrupt(other)).response.HasField("completed_time")


async def test_a_run_is_told_with_its_request_and_its_key(client: Client) -> None:
    for text in ("ask", "say"):
        run_id = (await client.runs.start(text, idempotency_key=f"key of {text}")).response.id
        events = [event async for event in client.runs.watch(run_id)]
        run = await client.runs.get(run_id)
        assert run.idempotency_key == f"key of {text}"
        assert [message.content[0].text for message in run.request.input] == [text]
        assert run.background
        assert run.last_sequence_number == events[-1].sequence_number
        assert run.updated_time.ToNanoseconds() >= run.response.created_time.ToNanoseconds()


async def test_a_run_is_read_by_calls_of_their_own(client: Client) -> None:
    runs = client.calls.connection.runs
    asked = query_pb2.QueryRequest()
    asked.request.input.add(role=events_pb2.ROLE_USER).content.add(text="say")
    events = [event async for frame in runs.Query(asked) for event in frame.events]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.status == events_pb2.RUN_STATUS_COMPLETED
    watch = query_pb2.WatchRunRequest(run_id=events[0].response.id)
    assert [event async for frame in runs.WatchRun(watch) for event in frame.events] == events
    watch.after_sequence_number = 2
    assert [event async for frame in runs.WatchRun(watch) for event in frame.events] == events[3:]


async def test_what_is_started_and_not_read_goes_on_in_the_background(client: Client) -> None:
    first = (await client.runs.start("ask")).response.id
    assert [event async for event in client.runs.watch(first)]
    child = await client.runs.start("ask", parent_run_id=first)
    behind = await client.runs.start("ask", previous_run_id=first, fork_session=True)
    assert [run.background for run in (child, behind)] == [True, True]
