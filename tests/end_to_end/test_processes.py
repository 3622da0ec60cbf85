"""Each process of `portico run` is suspended under load, or killed: nothing is lost."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from support.deployment import SCRIPTED, Deployment, ask
from support.sse import SseReader

from portico.client import Client
from portico.core.integrity.database_check import DatabaseCheck
from portico.v1 import events_pb2

pytestmark = pytest.mark.xdist_group("processes")  # one deployment for the tests that leave it intact
STOPPED_SECONDS = 2.0
COUNT = 250  # 2.5 seconds of tokens, so that every run is live when a process is stopped
TEXT = "".join(f"{number} " for number in range(COUNT))


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    started = Deployment(SCRIPTED, tmp_path_factory.mktemp("processes"))
    yield started
    started.stop()


def process_of(deployment: Deployment, name: str) -> psutil.Process:
    return deployment.process if name == "supervisor" else deployment.child(f"portico.{name}")


async def over_sse(http: httpx.AsyncClient) -> None:
    started = await http.post("/runs", json=ask(f"count {COUNT} 10"))
    reader = SseReader(http, started.json()["id"])
    await reader.read()
    assert [event["sequence_number"] for event in reader.events] == list(range(len(reader.events)))
    assert reader.events[-1]["status"] == "completed"
    assert reader.events[-1]["output"][0]["content"][0]["text"] == TEXT


async def over_openai(http: httpx.AsyncClient) -> None:
    body = {"model": "scripted", "input": f"count {COUNT} 10"}
    answer = await http.post("/v1/responses", json=body)
    assert answer.json()["output"][0]["content"][0]["text"] == TEXT


async def over_grpc(client: Client) -> None:
    events = [event async for event in client.runs.query(f"count {COUNT} 10")]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.status == events_pb2.RUN_STATUS_COMPLETED


@pytest.mark.parametrize("name", ["supervisor", "core", "gateways"])
async def test_a_process_that_is_stopped_for_a_while_loses_nothing(deployment: Deployment, name: str) -> None:
    async with (
        Client(deployment.target) as client,
        httpx.AsyncClient(base_url=deployment.url, timeout=60) as http,
    ):
        callers = [over_sse(http), over_openai(http), over_grpc(client)]
        calls = asyncio.gather(*callers, *(over_grpc(client) for _ in range(10)), over_sse(http))
        await asyncio.sleep(0.5)
        children = {child.pid for child in deployment.process.children()}
        stopped = process_of(deployment, name)
        stopped.suspend()
        try:
            # New requests meanwhile wait, and are served.
            late = asyncio.gather(over_sse(http), over_grpc(client))
            await asyncio.sleep(STOPPED_SECONDS)
        finally:
            stopped.resume()
        await asyncio.wait_for(asyncio.gather(calls, late), 60)
        # It continued; no process treated it as dead.
        assert {child.pid for child in deployment.process.children()} == children


async def test_a_killed_supervisor_takes_its_children_along_and_the_next_goes_on(tmp_path: Path) -> None:
    deployment = Deployment(SCRIPTED, tmp_path, env={"PORTICO_CORE_DRAIN_SECONDS": "0.5"})
    try:
        async with Client(deployment.target) as client:
            running = [await client.runs.start(f"count {COUNT} 20", agent="again") for _ in range(5)]
            readers = [asyncio.create_task(_events(client, run.response.id)) for run in running]
            await asyncio.sleep(0.3)
            family = deployment.process.children(recursive=True)
            deployment.process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(deployment.process.wait, 30)
            _, alive = await asyncio.to_thread(psutil.wait_procs, family, 30)
            assert alive == []
            await asyncio.to_thread(deployment.start)
            for events in await asyncio.wait_for(asyncio.gather(*readers), 60):
                assert [event.sequence_number for event in events] == list(range(len(events)))
                assert events[-1].response.status == events_pb2.RUN_STATUS_COMPLETED
    finally:
        deployment.stop()
    audit = DatabaseCheck(tmp_path / "portico.db")
    assert [*audit.file_problems(), *audit.broken_runs(), *audit.broken_segments()] == []
    assert audit.unfinished() == 0
    audit.close()


async def _events(client: Client, run_id: str) -> list[events_pb2.Event]:
    return [event async for event in client.runs.watch(run_id, resume_timeout=60)]
