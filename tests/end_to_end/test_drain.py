"""SIGTERM: clients that resume notice nothing."""

import asyncio
from pathlib import Path

import pytest
from support.deployment import SCRIPTED, Deployment

from portico.client import Client
from portico.v1 import events_pb2


async def test_a_restarted_core_is_resumed_from_without_the_reader_noticing(
    own_deployment: Deployment,
) -> None:
    async with Client(own_deployment.target) as client:
        run = await client.runs.start("count 300 5", agent="again")
        stream = client.runs.watch(run.response.id)
        await anext(stream)
        own_deployment.child("portico.core").terminate()
        events = [event async for event in stream]
        assert events[-1].response.status == events_pb2.RUN_STATUS_COMPLETED
        assert [event.sequence_number for event in events] == list(range(1, len(events) + 1))
        # The drain time was long enough: nothing was executed twice.
        assert events[-1].response.attempt == 1


async def test_a_run_that_outlasts_the_drain_goes_on_in_the_next_core(tmp_path: Path) -> None:
    short = Deployment(SCRIPTED, tmp_path, env={"PORTICO_CORE_DRAIN_SECONDS": "0.3"})
    try:
        async with Client(short.target) as client:
            run = await client.runs.start("count 200 10", agent="again")
            stream = client.runs.watch(run.response.id)
            await anext(stream)
            short.child("portico.core").terminate()
            events = [event async for event in stream]
            assert events[-1].response.status == events_pb2.RUN_STATUS_COMPLETED
            assert events[-1].response.attempt == 2
            assert [event.sequence_number for event in events] == list(range(1, len(events) + 1))
    finally:
        short.stop()


@pytest.mark.parametrize("module", ["portico.core", "portico.gateways"])
async def test_stopping_leaves_nothing_behind(tmp_path: Path, module: str) -> None:
    deployment = Deployment(SCRIPTED, tmp_path)
    child = deployment.child(module)
    assert deployment.stop() == 0
    await asyncio.sleep(0.1)
    assert not child.is_running()
