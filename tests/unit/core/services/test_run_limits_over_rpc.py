"""Limits per tenant and user, over gRPC."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.identity import Callers, guarded_core
from support.serving import running_site, settings_in

from portico.agent import AgentApp, Context
from portico.client import Client, Multiplexer, ResourceExhausted, RunFailed, query_request
from portico.gateways.sse.app import SseGateway
from portico.gateways.sse.settings import SseSettings
from portico.v1 import events_pb2


class Gate:
    """An agent that waits until it is released, and records the users whose runs have begun."""

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
        """Lets all runs that have begun end."""
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
        # Runs of a busy session wait in a bounded queue too.
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
    """Creates a key although the admin has used up its calls."""
    core.server._authentication._rates._buckets.clear()  # type: ignore[union-attr]
    return await core.key(user)


async def test_a_tenants_sandboxes_are_counted_together(tmp_path: Path, gate: Gate) -> None:
    async with guarded_core([gate.app], tmp_path, sandbox_per_tenant=1) as core:
        ada, bob = await core.client("ada", "acme"), await core.client("bob", "acme")
        await ada.sandboxes.create()
        with pytest.raises(ResourceExhausted):
            await bob.sandboxes.create()
        await (await core.client("bob", "globex")).sandboxes.create()


def writer() -> AgentApp:
    """Yields as many letters as its input asks for, or stores them as a memory."""
    app = AgentApp("writer")

    @app.query
    async def query(msgs: list[Any], context: Context) -> AsyncIterator[str]:
        word, _, count = msgs[-1].text.partition(" ")
        match word:
            case "say":
                yield "x" * int(count)
            case "remember":
                yield await context.memory.add("x" * int(count))
            case "both":
                yield "x" * int(count)
                child = await context.start_run("say 10")
                yield (await child.result()).text

    return app


@pytest.mark.parametrize("store", ["memory://", "sqlite"])
async def test_who_has_stored_too_much_is_told_what_to_delete_and_a_run_at_work_goes_on(
    tmp_path: Path, store: str
) -> None:
    url = f"sqlite:///{tmp_path}/limits.db" if store == "sqlite" else store
    settings = {"user_stored_bytes": 30_000, "store": url}
    async with guarded_core([writer()], tmp_path, **settings) as core:
        ada, bob = await core.client("ada"), await core.client("bob")
        big = ada.runs.query("both 20000", session_id="s")
        assert await big.text() == "x" * 20_010
        for refused in (
            lambda: ada.runs.start("say 1"),
            lambda: ada.runs.query("say 1").text(),
            lambda: ada.memories.add(["one more thing"]),
            lambda: ada.states.save({"a": 1}, session_id="s"),
            lambda: ada.sessions.append_messages("s", "hi"),
        ):
            with pytest.raises(ResourceExhausted) as caught:
                await refused()
            assert caught.value.metadata == {"limit": "user_stored_bytes"}
            assert "delete runs, sessions, states or memories" in str(caught.value)
        async with Multiplexer(ada) as streams:
            with pytest.raises(ResourceExhausted), streams.open_query(query_request("say 1")) as stream:
                _ = [frame async for frame in stream]
        assert await bob.runs.query("say 1").text() == "x"
        # Stored data can be read and deleted.
        assert len([event async for event in ada.runs.watch(big.run_id)]) > 3
    if store == "sqlite":
        again = tmp_path / "again"
        again.mkdir()
        async with guarded_core([writer()], again, **settings) as core:
            ada = await core.client("ada")
            with pytest.raises(ResourceExhausted):
                await ada.runs.start("say 1")
            async for run in ada.runs.list():
                await ada.runs.delete(run.response.id)
            await ada.sessions.delete("s")
            async with asyncio.timeout(10):
                while True:
                    try:
                        assert await ada.runs.query("say 1").text() == "x"
                        break
                    except ResourceExhausted:
                        await asyncio.sleep(0.05)


async def test_an_agent_that_would_store_too_much_for_its_user_fails_with_the_reason(tmp_path: Path) -> None:
    async with guarded_core([writer()], tmp_path, tenant_stored_bytes=5000) as core:
        ada = await core.client("ada", "acme")
        stream = ada.runs.query("remember 10000")
        with pytest.raises(RunFailed, match="LimitExceeded: the tenant has"):
            await stream.text()
        settings = SseSettings(**settings_in(tmp_path))
        key = await core.key("ada", "acme")
        async with (
            running_site(SseGateway(settings), settings) as (url, _),
            httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}) as http,
        ):
            assert (await http.post("/process", json={"input": "say 6000"})).status_code == 200
            refused = await http.post("/process", json={"input": "say 6000"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "LIMIT_EXCEEDED")
