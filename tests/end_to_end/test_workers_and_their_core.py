"""Workers end with their core, however it ends; the next core removes what they left."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.deployment import Deployment, eventually

from portico.client import Client

AGENT = """
import asyncio, os, subprocess, time
from portico.agent import AgentApp

app = AgentApp("apart", isolation="process")

@app.query
async def query(msgs):
    if msgs[-1].text == "block":
        left = subprocess.Popen(["sleep", "600"], start_new_session=True)
        yield f"{os.getpid()} {left.pid}"
        await asyncio.sleep(0.1)
        time.sleep(600)
    yield "here"
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    file = tmp_path / "apart.py"
    file.write_text(AGENT)
    started = Deployment(file, tmp_path)
    yield started
    started.stop()


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_a_core_that_is_killed_takes_its_workers_along(deployment: Deployment) -> None:
    async with Client(deployment.target) as client:
        stream = client.runs.query("block")
        async for event in stream:
            if event.content.text:
                break
        worker, left = (int(pid) for pid in event.content.text.split())
        deployment.kill("portico.core")
        await eventually(lambda: ended(worker))  # though it blocks
        deployment.wait_ready()
        assert await client.runs.query("go").text() == "here"
        assert ended(left)
        *_, end = [event async for event in stream]
        assert end.response.error.code == "core_restarted"
