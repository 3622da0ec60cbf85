"""A disk that is slow at every write and sync: the core answers, and loses nothing."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.deployment import SCRIPTED, Deployment
from support.faults import Faults

from portico.client import Client
from portico.core.log.live_run import PENDING_EVENTS
from portico.v1 import events_pb2

MEGABYTE = 1024 * 1024


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    return Faults(tmp_path)


@pytest.fixture
def deployment(tmp_path: Path, faults: Faults) -> Iterator[Deployment]:
    store = f"sqlite:///{tmp_path}/portico.db?synchronous=full"
    started = Deployment(SCRIPTED, tmp_path, "--store", store, env=faults.env)
    yield started
    faults.slow_disk(0)
    started.stop()


async def test_on_a_slow_disk_the_core_answers_and_nothing_acknowledged_is_lost(
    deployment: Deployment, faults: Faults
) -> None:
    async with Client(deployment.target) as client:
        before = await client.runs.query("count 3", session_id="s").text()
        assert before == "0 1 2 "
        [old] = [run async for run in client.runs.list(session_id="s")]
        core = deployment.child("portico.core")
        faults.slow_disk(0.1)
        # A commit now takes up to a second. Agents produce far more than the disk accepts.
        runs = [await client.runs.start("big 500 20000") for _ in range(4)]
        reading = asyncio.create_task(_read(client, runs[0].response.id))
        waits = []
        rss = []
        until = time.monotonic() + 5
        while time.monotonic() < until:
            began = time.monotonic()
            assert (await client.runs.get(old.response.id)).response.id == old.response.id
            assert [event async for event in client.runs.watch(old.response.id)]
            waits.append(time.monotonic() - began)
            rss.append(core.memory_info().rss)
            await asyncio.sleep(0.05)
        # Reads do not wait for the disk's writes: otherwise most would take several commits.
        assert sorted(waits)[len(waits) // 2] < 0.25, waits
        assert rss[-1] - rss[len(rss) // 2] < 50 * MEGABYTE, "what agents say piles up"
        for run in runs:
            found = await client.runs.get(run.response.id)
            assert found.last_sequence_number < 20_000 - PENDING_EVENTS, "the disk was not slow"
        # Received events, and all other acknowledged data, exist after the crash.
        await asyncio.to_thread(deployment.kill, "portico.core")
        faults.slow_disk(0)
        await asyncio.to_thread(deployment.wait_ready)
        seen = await reading
        assert len(seen) > 3
        assert [event.sequence_number for event in seen] == list(range(len(seen)))
        for run in runs:
            end = (await client.runs.get(run.response.id)).response
            assert end.error.code == "core_restarted"
        assert await client.runs.query("count 3").text() == "0 1 2 "


async def _read(client: Client, run_id: str) -> list[events_pb2.Event]:
    """Returns the events of a reader from the beginning, which resumes after the core has restarted."""
    return [event async for event in client.runs.watch(run_id)]
