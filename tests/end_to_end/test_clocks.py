"""The clock jumps by hours under a running core: durations are unaffected, dates follow the clock."""

import asyncio
import time
from collections.abc import Iterator
from itertools import chain, cycle
from pathlib import Path

import httpx
import pytest
from support.deployment import SCRIPTED, Deployment, ask
from support.faults import Faults

from portico.client import Client, RunStream
from portico.v1 import events_pb2, sandbox_pb2

HOUR = 3600.0
pytestmark = pytest.mark.xdist_group("clocks")  # one deployment for all tests
JUMPS = cycle((5.0, -7.0, 1000.0, 0.0))  # hours


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return Faults(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, faults: Faults) -> Iterator[Deployment]:
    started = Deployment(SCRIPTED, tmp_path_factory.mktemp("clocks"), env=faults.env)
    yield started
    started.stop()


async def timed(stream: RunStream) -> tuple[list[events_pb2.Event], float]:
    """Returns the events of the log, and the seconds until they arrived."""
    began = time.monotonic()
    return [event async for event in stream], time.monotonic() - began


async def test_durations_are_those_that_go_by(deployment: Deployment, faults: Faults) -> None:
    async with (
        Client(deployment.target) as client,
        httpx.AsyncClient(base_url=deployment.url, timeout=60) as http,
    ):
        spec = sandbox_pb2.SandboxSpec()
        spec.ttl.FromSeconds(1800)
        box = await client.sandboxes.create(spec)
        port = await client.sandboxes.create_port_access(box.sandbox_id, 8000, lifetime=1800)
        runs = [
            *(timed(client.runs.query("count 150 20", session_id=f"s{number}")) for number in range(3)),
            timed(client.runs.query("count 100000 20", timeout=2)),
            timed(client.runs.query("count 100000 20", budget={"wall_time": 2})),
        ]
        streams = asyncio.gather(*runs)
        answer = asyncio.create_task(http.post("/process", json=ask("count 150 20", stream=False)))
        while not (streams.done() and answer.done()):
            faults.set_clock(next(JUMPS))
            await asyncio.sleep(0.2)
        for number, (events, seconds) in enumerate(await streams):
            assert [event.sequence_number for event in events] == list(range(len(events)))
            end = events[-1].response
            if number < 3:
                assert end.status == events_pb2.RUN_STATUS_COMPLETED
                assert seconds >= 2.9
            else:
                assert end.error.code in ("deadline_exceeded", "budget_exceeded"), end.error
                assert seconds >= 1.9
        assert (await answer).json()["status"] == "completed"
        # A lifetime of half an hour continues, although the date is five hours later.
        faults.set_clock(5)
        await asyncio.sleep(1)
        said = [event.stdout async for event in client.sandboxes.run_cell(box.sandbox_id, "print(6 * 7)")]
        assert b"".join(said) == b"42\n"
        opened = await http.get(f"/ports/{port.access_token}/")
        assert opened.status_code not in (401, 403, 404), opened.text  # no server listens inside


async def test_dates_follow_the_clock_and_order_does_not(deployment: Deployment, faults: Faults) -> None:
    true = time.time()
    async with Client(deployment.target) as client:
        for turn, hours in enumerate((0.0, 5.0, -5.0, 2.0)):
            faults.set_clock(hours)
            events, _ = await timed(client.runs.query(f"echo {turn}", session_id="talk", user_id="ada"))
            run = events[-1].response
            assert abs(run.created_time.seconds - (true + hours * HOUR)) < HOUR
            assert run.status == events_pb2.RUN_STATUS_COMPLETED
        told = [one.message async for one in client.sessions.list_messages("talk", user_id="ada")]
        texts = [message.content[0].text for message in told]
        assert texts == list(chain.from_iterable((f"echo {turn}", str(turn)) for turn in range(4)))
        listed = [run async for run in client.runs.list(session_id="talk", page_size=1)]
        assert len({run.response.id for run in listed}) == 4


async def test_what_waits_is_taken_up_in_the_order_in_which_it_came(
    deployment: Deployment, faults: Faults, tmp_path: Path
) -> None:
    """The second run has the earlier date."""
    go_on = tmp_path / "go-on"
    async with Client(deployment.target) as client:
        first = await client.runs.start(
            f"count-until {go_on}", agent="again", session_id="lane", user_id="ada"
        )
        faults.set_clock(-5)
        second = await client.runs.start("echo second", agent="again", session_id="lane", user_id="ada")
        await asyncio.to_thread(deployment.kill, "portico.core")
        await asyncio.to_thread(deployment.wait_ready)
        await asyncio.sleep(0.5)
        waiting = await client.runs.get(second.response.id)
        assert waiting.response.status == events_pb2.RUN_STATUS_QUEUED
        go_on.touch()
        for run in (first, second):
            events, _ = await timed(client.runs.watch(run.response.id))
            assert events[-1].response.status == events_pb2.RUN_STATUS_COMPLETED
