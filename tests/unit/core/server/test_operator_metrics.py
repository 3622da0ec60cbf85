"""Metrics of a core other than those of runs: refusals, the store, retention, push configs."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.a2a_gateways import scripted_agents
from support.identity import guarded_core
from support.measurements import Read, measuring
from support.serving import running_core

from portico.client import Client, PermissionDenied, ResourceExhausted, Unauthenticated
from portico.client.multiplexer import Multiplexer
from portico.core.stores.sqlite.file_metrics import sizes
from portico.v1 import push_pb2, query_pb2


@pytest.fixture
def read() -> Iterator[Read]:
    with measuring() as reading:
        yield reading


async def test_refused_credentials_are_counted_by_reason(read: Read, tmp_path: Path) -> None:
    async with guarded_core(scripted_agents(), tmp_path) as core, core.nobody() as nobody:
        with pytest.raises(Unauthenticated):
            await nobody.runs.get("resp_1")
        with pytest.raises(Unauthenticated):
            await nobody.with_options(credential="pk_guess_made_up").runs.get("resp_1")
        with pytest.raises(Unauthenticated):
            await nobody.with_options(metadata={"authorization": "Basic abc"}).runs.get("resp_1")
        key, credential = await core.admin.identity.create_key(user_id="ann")
        await core.admin.identity.revoke_key(key.key_id)
        with pytest.raises(Unauthenticated):
            await nobody.with_options(credential=credential).runs.get("resp_1")
        reader = await core.client("bob", "", "read")
        with pytest.raises(PermissionDenied):
            await reader.runs.cancel("resp_1")
        # A stream of a gateway's connection counts too.
        async with Multiplexer(nobody) as streams:
            watch = query_pb2.WatchRunRequest(run_id="resp_1")
            with (
                pytest.raises(Unauthenticated),
                streams.open_watch(watch, metadata={"authorization": "Bearer x"}) as s,
            ):
                await s.next_frames()
        assert read()["portico.credentials.refused"] == {
            "missing": 1,
            "unknown": 2,
            "malformed": 1,
            "revoked": 1,
            "scope": 1,
        }


async def test_calls_beyond_a_rate_are_counted_by_limit(read: Read, tmp_path: Path) -> None:
    async with guarded_core(scripted_agents(), tmp_path, user_requests=0.001) as core:
        ann = await core.client("ann")
        await ann.runs.list().page()
        for _ in range(2):
            with pytest.raises(ResourceExhausted):
                await ann.runs.list().page()
        assert read()["portico.calls.limited"] == {"user_requests": 2}


async def test_a_store_has_sizes_and_takes_writes_or_not(read: Read, tmp_path: Path) -> None:
    database = tmp_path / "portico.db"
    async with (
        running_core(scripted_agents(), tmp_path, store=f"sqlite:///{database}") as server,
        Client(server.addresses[0]) as client,
    ):
        await client.memories.add(["a " * 30_000] * 4, user_id="ann")
        told = read()
        assert told["portico.store.writable"] == {"": 1}
        store = told["portico.store.size"]
        assert store["database"] == database.stat().st_size
        assert store["wal"] >= 200_000
        assert store["free"] >= 0
        # A deletion leaves free pages: in the write-ahead log first, then in the file.
        await client.memories.delete(user_id="ann")
        assert read()["portico.store.size"]["free"] >= 80_000
        blocker = sqlite3.connect(database, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        adding = asyncio.create_task(client.memories.add(["more"], user_id="ann"))
        async with asyncio.timeout(30):
            while read()["portico.store.writable"] != {"": 0}:
                await asyncio.sleep(0.05)
            blocker.execute("ROLLBACK")
            await asyncio.gather(adding, return_exceptions=True)
            while read()["portico.store.writable"] != {"": 1}:
                await asyncio.sleep(0.05)
        blocker.close()


def test_of_files_that_are_not_there_no_size_is_told(tmp_path: Path) -> None:
    assert list(sizes(tmp_path / "nothing.db")) == []
    assert not (tmp_path / "nothing.db").exists()


async def test_retention_counts_what_it_removes_and_tells_its_age(read: Read, tmp_path: Path) -> None:
    async with (
        running_core(
            scripted_agents(), tmp_path, session_ttl_seconds=60.0, memory_ttl_seconds=60.0
        ) as server,
        Client(server.addresses[0]) as client,
    ):
        await client.memories.add(["one", "two"], user_id="ann")
        soon = datetime.now(UTC) + timedelta(seconds=50)
        await client.memories.add("three", user_id="ann", expire_time=soon)
        await client.sessions.create(user_id="ann", session_id="s")
        retention = server._retention
        later, now = time.time() + 100.0, retention._done_at + 7.0
        retention._clock, retention._monotonic = lambda: later, lambda: now
        retention._seen.clear()
        assert read()["portico.retention.age"] == {"": 7.0}
        await retention.sweep()
        told = read()
        assert told["portico.retention.removed"] == {"memory": 2, "session": 1, "expired_memory": 1}
        assert told["portico.retention.age"] == {"": 0.0}
        assert told["portico.retention.failures"] == {"": 0}


async def test_pushes_that_nobody_delivers_are_counted_from_the_start(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/portico.db"
    with measuring() as read:
        async with (
            running_core(scripted_agents(), tmp_path, store=store) as server,
            Client(server.addresses[0]) as client,
        ):
            run = await client.runs.start("say hi")
            await client.pushes.set(push_pb2.PushConfig(run_id=run.response.id, url="http://127.0.0.1:1/"))
            assert read()["portico.push.pending"] == {"held": 0, "waiting": 1}
    with measuring() as read:
        async with (
            running_core(scripted_agents(), tmp_path, store=store) as server,
            Client(server.addresses[0]) as client,
        ):
            assert read()["portico.push.pending"] == {"held": 0, "waiting": 1}
            claim = client.pushes.claim()
            await anext(claim)
            assert read()["portico.push.pending"] == {"held": 1, "waiting": 0}
            await claim.aclose()
