"""What QueryService tells of runs is what a crash would leave."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.engine import Disk
from support.serving import running_core

from portico.agent import AgentApp, Context, Message, new_message
from portico.client import Client
from portico.client.errors import Unavailable
from portico.core.server import CoreServer
from portico.v1 import events_pb2


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
