"""Two cores on one database: the newer one owns it, and the other one ends instead of writing."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.deployment import READY_SECONDS, SCRIPTED, Deployment

from portico.client import Client
from portico.client.errors import Unavailable
from portico.v1 import events_pb2

FENCED_OUT = 3
SENTENCE = "portico core: another core has taken over the database; this one ends"


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    started = Deployment(SCRIPTED, tmp_path, env={"PORTICO_CORE_DRAIN_SECONDS": "60"})
    yield started
    if started.process.is_running():
        started.process.kill()


@pytest.fixture
def other(deployment: Deployment) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a second core after its lock was removed."""
    folder = deployment.directory
    (folder / "portico.db.lock").unlink()
    command = [sys.executable, "-m", "portico.core", str(SCRIPTED), f"--listen=unix:{folder}/other.sock"]
    process = subprocess.Popen([*command, f"--store=sqlite:///{folder}/portico.db"])
    yield process
    process.terminate()
    process.wait(30)


async def test_a_core_that_is_replaced_ends_and_is_not_started_again(
    deployment: Deployment, request: pytest.FixtureRequest
) -> None:
    core = deployment.child("portico.core")
    seen: list[events_pb2.Event] = []
    async with Client(deployment.target) as client:
        run = await client.runs.start("count 3000 10", idempotency_key="k")

        async def read() -> None:
            async for event in client.runs.watch(run.response.id, resume_timeout=0.5):
                assert event.sequence_number == len(seen)
                seen.append(event)

        reading = asyncio.create_task(read())
        while len(seen) < 20:
            await asyncio.sleep(0.02)
        request.getfixturevalue("other")
        async with Client(f"unix:{deployment.directory}/other.sock") as second:
            # The first core ends by itself, and so does the supervisor that would restart it.
            assert await asyncio.to_thread(deployment.process.wait, READY_SECONDS) == FENCED_OUT
            assert not core.is_running()
            log = deployment.log.read_text()
            assert log.count(SENTENCE) == 1
            assert "Traceback" not in log
            with pytest.raises(Unavailable):
                await reading
            # Its received events exist once, and the run continues to one end.
            events = [event async for event in second.runs.watch(run.response.id)]
            assert events[: len(seen)] == seen
            assert [event.sequence_number for event in events] == list(range(len(events)))
            ends = [event for event in events if event.response.HasField("completed_time")]
            assert ends == events[-1:]
            assert await second.runs.query("count 2").text() == "0 1 "
            assert ends[0].response.status == events_pb2.RUN_STATUS_FAILED
