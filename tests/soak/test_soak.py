"""Mixed load over all protocols with random faults; afterwards nothing is lost, doubled or left behind."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest
from soak.callers import USER, Callers
from support.deployment import SCRIPTED, Deployment

from portico.client import Client
from portico.core.integrity.database_check import DatabaseCheck

SECONDS = float(os.environ.get("PORTICO_SOAK_SECONDS", "60"))
KILLS = int(os.environ.get("PORTICO_SOAK_KILLS", "0"))  # of the core and nothing else; 0: all kinds
KILL_SECONDS = 30.0  # at most, until the core is ready again and has worked
MARK = "PORTICO_SOAK_OF"
FAULTS = [
    ("portico.core", signal.SIGKILL),
    ("portico.core", signal.SIGTERM),
    ("portico.core", signal.SIGSTOP),
    ("portico.gateways", signal.SIGKILL),
    ("portico.gateways", signal.SIGTERM),
    ("portico.gateways", signal.SIGSTOP),
]


@pytest.mark.timeout(max(SECONDS, KILLS * KILL_SECONDS) + 400)
async def test_nothing_is_lost_doubled_or_left_behind(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    mark = uuid4().hex
    environment = {MARK: mark, "TMPDIR": str(temporary), "PORTICO_CORE_DRAIN_SECONDS": "2"}
    deployment = Deployment(SCRIPTED, tmp_path, env=environment)
    try:
        async with (
            Client(deployment.target) as client,
            httpx.AsyncClient(base_url=deployment.url, timeout=30) as http,
        ):
            callers = Callers(client, http, tmp_path, chance)
            working = asyncio.create_task(callers.work())
            faults = await (
                kill_cores(deployment, chance, KILLS) if KILLS else make_faults(deployment, chance, SECONDS)
            )
            callers.stop.set()
            await working
            print(*callers.problems, sep="\n")
            assert callers.problems == []
            assert min(callers.done.values()) >= 2, callers.done
            await asyncio.to_thread(deployment.wait_ready)
            await settled(client)
            await sessions_hold_each_message_once(client, callers.sessions)
    finally:
        status = deployment.stop()
    print(f"{faults} faults, {dict(callers.done)}")
    assert status == 0
    audit = DatabaseCheck(tmp_path / "portico.db")
    assert [*audit.file_problems(), *audit.broken_runs(), *audit.broken_segments()] == []
    assert audit.unfinished() == 0
    audit.close()
    assert [path.name for path in temporary.iterdir()] == []
    assert left_processes(mark) == []
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    assert str(tmp_path) not in mounts


async def make_faults(deployment: Deployment, chance: random.Random, seconds: float) -> int:
    """One after the other; how many there were."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    count = 0
    while clock() < until:
        module, number = chance.choice(FAULTS)
        child = await asyncio.to_thread(deployment.child, module)
        child.send_signal(number)
        if number == signal.SIGSTOP:
            await asyncio.sleep(chance.uniform(0.2, 2))
            child.send_signal(signal.SIGCONT)
        else:
            await asyncio.to_thread(child.wait, 30)
        await asyncio.to_thread(deployment.wait_ready)
        await asyncio.sleep(chance.uniform(0.5, 3))
        count += 1
    return count


async def kill_cores(deployment: Deployment, chance: random.Random, kills: int) -> int:
    """`kill -9` of the core, again and again, at any moment of its work; how many there were."""
    for _ in range(kills):
        await asyncio.sleep(chance.uniform(0, 1.5))
        await asyncio.to_thread(deployment.kill, "portico.core")
        await asyncio.to_thread(deployment.wait_ready)
    return kills


async def settled(client: Client) -> None:
    """Until no run is live."""
    async with asyncio.timeout(60):
        while [run async for run in live(client)]:
            await asyncio.sleep(0.2)


def live(client: Client) -> AsyncIterator[object]:
    return aiter(client.runs.list(statuses=["created", "queued", "in_progress", "input_required"]))


async def sessions_hold_each_message_once(client: Client, sessions: dict[str, int]) -> None:
    for session, turns in sessions.items():
        asked = []
        async for message in client.sessions.list_messages(session, user_id=USER):
            text = message.message.content[0].text
            if text.startswith("echo "):
                asked.append(text)
        assert asked == [f"echo turn {turn}" for turn in range(turns)], session


def left_processes(mark: str) -> list[str]:
    """Command lines of what the deployment left running."""
    left = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                left.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue  # gone meanwhile, or nobody's to look into
    return left
