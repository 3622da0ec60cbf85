"""Core and gateways are restarted under load again and again, and no caller sees a failed run."""

import asyncio
import os
import time
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from support.deployment import SCRIPTED, Deployment, ask

from portico.client import Client
from portico.client.errors import Unavailable

RESTARTS = int(os.environ.get("PORTICO_SOAK_RESTARTS", "100"))
SIDE_BY_SIDE = 2  # deployments, which have these in equal shares: while one drains, another starts
CALLERS = 2  # of each protocol, for each deployment
TEXT = "".join(f"{number} " for number in range(30))


@pytest.mark.timeout(120 + 15 * RESTARTS)
async def test_rolling_restarts_fail_no_run(tmp_path: Path) -> None:
    shares = [RESTARTS // SIDE_BY_SIDE + (number < RESTARTS % SIDE_BY_SIDE) for number in range(SIDE_BY_SIDE)]
    began = time.monotonic()
    folders = [tmp_path / str(number) for number in range(SIDE_BY_SIDE)]
    done = await asyncio.gather(*map(rolling, folders, shares))
    print(f"{sum(shares)} restarts, {sum(done)} replies, {time.monotonic() - began:.0f} s")


async def rolling(directory: Path, restarts: int) -> int:
    """So many restarts of one deployment. Returns how many replies there were meanwhile."""
    directory.mkdir()
    deployment = await asyncio.to_thread(Deployment, SCRIPTED, directory)
    stop = asyncio.Event()
    try:
        async with (
            Client(deployment.target) as client,
            httpx.AsyncClient(base_url=deployment.url, timeout=60) as http,
        ):

            async def over_grpc() -> int:
                done = 0
                while not stop.is_set():
                    assert await told(client) == TEXT
                    done += 1
                return done

            async def over_http() -> int:
                done = 0
                while not stop.is_set():
                    assert await reply(http) == TEXT
                    done += 1
                return done

            callers = asyncio.gather(*(call() for call in (over_grpc, over_http) for _ in range(CALLERS)))
            for turn in range(restarts):
                # The gateways in every fourth turn: a reply that they were sending is asked for again.
                module = "portico.gateways" if turn % 4 == 3 else "portico.core"
                child = await asyncio.to_thread(deployment.child, module)
                child.terminate()
                await asyncio.to_thread(child.wait, 60)
                await asyncio.to_thread(deployment.wait_ready)
                assert not callers.done(), await callers
            stop.set()
            done = await callers
            assert min(done) >= 1
            failed = [run async for run in client.runs.list(statuses=["failed", "canceled"])]
            assert failed == []
            return sum(done)
    finally:
        await asyncio.to_thread(deployment.stop)


async def told(client: Client) -> str:
    """A run's text. The client tries to start it for ten seconds; a busy machine's restart takes longer."""
    key = uuid4().hex
    while True:
        try:
            return await client.runs.query("count 30 10", idempotency_key=key).text()
        except Unavailable:
            continue


async def reply(http: httpx.AsyncClient) -> str:
    """A reply's text; whoever is cut off asks again with the same key, which starts nothing again."""
    key = {"idempotency-key": uuid4().hex}
    while True:
        try:
            answer = await http.post("/process", json=ask("count 30 10", stream=False), headers=key)
        except httpx.TransportError:
            continue
        if answer.status_code == 503:
            await asyncio.sleep(0.05)
            continue
        assert answer.status_code == 200, answer.text
        text: str = answer.json()["output"][0]["content"][0]["text"]
        return text
