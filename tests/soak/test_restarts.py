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

# So many, however long it takes; or, when nobody has asked for a number, as many as fit.
ASKED = int(os.environ.get("PORTICO_SOAK_RESTARTS", "0"))
RESTARTS = ASKED or 100
FEWEST = ASKED or 5
AT_MOST = 90.0  # seconds
TEXT = "".join(f"{number} " for number in range(30))


@pytest.mark.timeout(AT_MOST + 360 + 30 * ASKED)
async def test_rolling_restarts_fail_no_run(tmp_path: Path) -> None:
    deployment = Deployment(SCRIPTED, tmp_path)
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

            callers = asyncio.gather(*(over_grpc() for _ in range(4)), *(over_http() for _ in range(4)))
            until = time.monotonic() + AT_MOST
            turn = 0
            while turn < RESTARTS and (turn < FEWEST or time.monotonic() < until):
                # The gateways in every fourth turn: a reply that they were sending is asked for again.
                module = "portico.gateways" if turn % 4 == 3 else "portico.core"
                child = await asyncio.to_thread(deployment.child, module)
                child.terminate()
                await asyncio.to_thread(child.wait, 60)
                await asyncio.to_thread(deployment.wait_ready)
                assert not callers.done(), await callers
                turn += 1
            stop.set()
            done = await callers
            print(f"{turn} restarts, {sum(done)} replies")
            assert min(done) >= 1
            failed = [run async for run in client.runs.list(statuses=["failed", "canceled"])]
            assert failed == []
    finally:
        deployment.stop()


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
