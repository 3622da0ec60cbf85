"""Limits per tenant and user, as callers of a core meet them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.identity import Callers, guarded_core
from support.serving import running_site, settings_in

from portico.agent import AgentApp
from portico.client import Client, Multiplexer, ResourceExhausted, query_request
from portico.gateways.sse.app import SseGateway
from portico.gateways.sse.settings import SseSettings
from portico.v1 import events_pb2


class Gate:
    """An agent that waits until it is let go, and notes whose runs have begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._waiting: list[asyncio.Event] = []
        self.app = AgentApp("gate")

        @self.app.query
        async def query(msgs: list[Any]) -> AsyncIterator[str]:
            self.begun.append(msgs[-1].text)
            event = asyncio.Event()
            self._waiting.append(event)
            await event.wait()
            yield "done"

    def let_go(self) -> None:
        """Whoever has begun ends."""
        for event in self._waiting:
            event.set()
        self._waiting.clear()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.begun) < count:
                await asyncio.sleep(0.01)


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def start(client: Client, text: str) -> str:
    return (await client.runs.start(text)).response.id


async def status(client: Client, run_id: str) -> int:
    return (await client.runs.get(run_id)).response.status


async def end_all(gate: Gate, runs: list[tuple[Client, str]]) -> None:
    async with asyncio.timeout(30):
        for client, run_id in runs:
            while await status(client, run_id) != events_pb2.RUN_STATUS_COMPLETED:
                gate.let_go()
                await asyncio.sleep(0.01)


async def test_one_tenants_queue_does_not_delay_anothers_first_run(tmp_path: Path, gate: Gate) -> None:
    async with guarded_core([gate.app], tmp_path, running_runs=2) as core:
        many, few = await core.client("ada", "acme"), await core.client("carol", "globex")
        runs = [(many, await start(many, "many")) for _ in range(30)]
        await gate.until(2)
        runs.append((few, await start(few, "few")))
        assert await status(few, runs[-1][1]) == events_pb2.RUN_STATUS_QUEUED
        gate.let_go()
        await gate.until(4)
        assert "few" in gate.begun[:4]
        await end_all(gate, runs)
        assert gate.begun.count("many") == 30


async def test_a_queued_run_can_be_canceled_and_takes_no_turn(tmp_path: Path, gate: Gate) -> None:
    async with guarded_core([gate.app], tmp_path, user_running_runs=1) as core:
        ada = await core.client("ada")
        first, second, third = [await start(ada, name) for name in ("first", "second", "third")]
        await gate.until(1)
        canceled = await ada.runs.cancel(second)
        assert canceled.response.status == events_pb2.RUN_STATUS_CANCELED
        await end_all(gate, [(ada, first), (ada, third)])
        assert gate.begun == ["first", "third"]


async def test_too_many_queued_are_refused_until_there_is_room(tmp_path: Path, gate: Gate) -> None:
    async with guarded_core([gate.app], tmp_path, user_running_runs=1, user_queued_runs=1) as core:
        ada, bob = await core.client("ada"), await core.client("bob")
        runs = [(ada, await start(ada, "one")), (ada, await start(ada, "two"))]
        with pytest.raises(ResourceExhausted) as caught:
            await start(ada, "three")
        assert caught.value.metadata == {"limit": "user_queued_runs", "retry_after_seconds": "5"}
        runs.append((bob, await start(bob, "bob's")))
        await end_all(gate, runs)
        await end_all(gate, [(ada, await start(ada, "three"))])
        # In a session that is busy, too, they wait in a queue that is bounded.
        runs = [(ada, (await ada.runs.start("s", session_id="s")).response.id) for _ in range(2)]
        with pytest.raises(ResourceExhausted):
            await ada.runs.start("s", session_id="s")
        await end_all(gate, runs)


async def test_calls_a_second_are_limited_on_links_too_and_http_says_when(tmp_path: Path, gate: Gate) -> None:
    async with guarded_core([gate.app], tmp_path, user_requests=0.01) as core:
        hasty = await core.client("hasty")
        await hasty.identity.caller()
        with pytest.raises(ResourceExhausted) as caught:
            await hasty.identity.caller()
        assert caught.value.metadata["limit"] == "user_requests"
        assert 90 < float(caught.value.metadata["retry_after_seconds"]) <= 100
        key = await core_key(core, "other")
        settings = SseSettings(**settings_in(tmp_path))
        async with (
            running_site(SseGateway(settings), settings) as (url, _),
            httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}) as http,
        ):
            assert (await http.get("/runs")).status_code == 200
            refused = await http.get("/runs")
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "LIMIT_EXCEEDED")
            assert 90 <= int(refused.headers["retry-after"]) <= 100
        async with core.nobody() as nobody, Multiplexer(nobody) as link:
            metadata = {"authorization": f"Bearer {key}"}
            stream = link.open_query(query_request("hi"), metadata=metadata)
            with pytest.raises(ResourceExhausted):
                await stream.next_frames()


async def core_key(core: Callers, user: str) -> str:
    """A key that is made although the admin has called before."""
    core.server._authentication._rates._buckets.clear()  # type: ignore[union-attr]
    return await core.key(user)


async def test_a_tenants_sandboxes_are_counted_together(tmp_path: Path, gate: Gate) -> None:
    async with guarded_core([gate.app], tmp_path, sandbox_per_tenant=1) as core:
        ada, bob = await core.client("ada", "acme"), await core.client("bob", "acme")
        await ada.sandboxes.create()
        with pytest.raises(ResourceExhausted):
            await bob.sandboxes.create()
        await (await core.client("bob", "globex")).sandboxes.create()
