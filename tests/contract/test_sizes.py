"""Measurement of stored bytes per user and tenant in every store, and stores with quotas."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from portico.core.errors import LimitExceeded, StoreUnavailable
from portico.core.stores import storage_quota
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stored_sizes import SizeScope, SizeStore
from portico.core.stores.ports.stores import (
    Chunk,
    Commit,
    MemoryRecord,
    NewMessage,
    NewSession,
    RunRecord,
    Stores,
)
from portico.core.stores.quota_stores import with_quota
from portico.core.stores.storage_quota import StorageQuota

ADA, BOB = "tenant:acme:ada", "tenant:acme:bob"
OTHERS = ("carol", "tenant:acme2:ada", "tenant", "tenant;")


def run(owner: str, run_id: str, status: str) -> RunRecord:
    return RunRecord(
        run_id, "a", owner, "s", status, 1.0, 1.0, 0, 1, True, None, b"r" * 10, b"s" * 5, b"a" * 3
    )


async def fill(stores: Stores, owner: str) -> int:
    """Store data of each kind; return its size in bytes."""
    name = owner.replace(":", "-")
    live, ended = run(owner, f"live-{name}", "in_progress"), run(owner, f"ended-{name}", "completed")
    text = "\N{SNOWMAN}" * 10
    message = NewMessage(owner, "s", "m", "user", text, b"p" * 40, 1.0)
    chunks = [Chunk(live.run_id, 0, 0, b"l" * 100), Chunk(ended.run_id, 0, 0, b"e" * 200)]
    await stores.runs.commit(Commit([live, ended], chunks, [message], [NewSession(owner, "s", 1.0)]))
    # Written as a tail: only in a segment, in a commit of its own.
    await stores.runs.commit(Commit((), [Chunk(live.run_id, 1, 1, b"l" * 100)]))
    await stores.results.keep(ended.run_id, "k", b"k" * 20)
    await stores.sessions.update(owner, "s", '{"a":1}')
    await stores.states.save(owner, "s", None, f'"{text}"', None)
    await stores.memories.add([MemoryRecord(f"mem-{name}", owner, "s", text, 1.0, "{}")])
    return 2 * 18 + 400 + 20 + 40 + 7 + 32 + 32


async def empty(stores: Stores, owner: str) -> None:
    name = owner.replace(":", "-")
    await stores.results.delete_all([f"ended-{name}"])
    await stores.runs.delete(f"live-{name}")
    await stores.runs.delete(f"ended-{name}")
    await stores.sessions.delete(owner, "s")
    await stores.states.delete(owner, None, None)
    await stores.memories.delete(owner, None, None)


async def test_everything_counts_for_its_user_and_its_tenant(stores: Stores) -> None:
    sizes = [await fill(stores, owner) for owner in (ADA, BOB, *OTHERS)]
    count = stores.sizes.stored_bytes
    for owner in (ADA, BOB, *OTHERS):
        assert await count(SizeScope(owner)) == sizes[0]
    assert await count(SizeScope("acme", tenant=True)) == 2 * sizes[0]
    assert await count(SizeScope("acme2", tenant=True)) == sizes[0]
    assert await count(SizeScope("", tenant=True)) == 3 * sizes[0]
    assert await count(SizeScope("nobody")) == await count(SizeScope("none", tenant=True)) == 0


async def test_what_is_deleted_counts_no_more(stores: Stores) -> None:
    size = await fill(stores, ADA)
    await fill(stores, BOB)
    await stores.states.save(ADA, "s", 1, '""', None)
    assert await stores.sizes.stored_bytes(SizeScope(ADA)) == size - 30
    await empty(stores, ADA)
    assert await stores.sizes.stored_bytes(SizeScope(ADA)) == 0
    assert await stores.sizes.stored_bytes(SizeScope("acme", tenant=True)) == size


async def test_a_restart_finds_the_same(tmp_path: Path) -> None:
    stores = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    size = await fill(stores, ADA)
    await stores.close()
    stores = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    assert await stores.sizes.stored_bytes(SizeScope(ADA)) == size
    with pytest.raises(LimitExceeded):
        await with_quota(stores, per_tenant=None, per_user=size).states.save(ADA, "t", None, "{}", None)
    await stores.close()


@pytest.mark.parametrize("whose", ["user", "tenant"])
async def test_who_is_full_is_told_and_has_room_once_something_is_deleted(stores: Stores, whose: str) -> None:
    size = await fill(stores, ADA)
    limit = size + 100
    full = with_quota(
        stores,
        per_tenant=limit if whose == "tenant" else None,
        per_user=limit if whose == "user" else None,
    )
    await full.states.save(ADA, "t", None, '"' + "x" * 98 + '"', None)
    message = NewMessage(ADA, "s", "n", "user", "x", b"p", 1.0)
    for attempt in (
        lambda: full.states.save(ADA, "t", None, "{}", None),
        lambda: full.sessions.create(ADA, "t", "{}"),
        lambda: full.sessions.update(ADA, "s", "{}"),
        lambda: full.sessions.append(ADA, "s", [message]),
        lambda: full.memories.add([MemoryRecord("m2", ADA, "", "x", 1.0)]),
    ):
        with pytest.raises(
            LimitExceeded, match=f"the {whose} has {limit} of {limit} bytes stored"
        ) as refused:
            await attempt()
        assert refused.value.metadata == {"limit": f"{whose}_stored_bytes"}
    # The quota of another user of the tenant depends on the kind of quota.
    if whose == "user":
        await full.states.save(BOB, "t", None, "{}", None)
    else:
        with pytest.raises(LimitExceeded):
            await full.states.save(BOB, "t", None, "{}", None)
    await full.states.save("carol", "t", None, "{}", None)
    await full.memories.add([MemoryRecord("m3", "agent:a", "", "x", 1.0)])
    await full.states.delete(ADA, "t", None)
    began = time.monotonic()
    while True:
        try:
            await full.states.save(ADA, "t", None, "{}", None)
            break
        except LimitExceeded:
            assert time.monotonic() < began + 5


async def test_what_a_log_and_a_fork_add_is_counted(stores: Stores) -> None:
    size = await fill(stores, ADA)
    full = with_quota(stores, per_tenant=None, per_user=size + 1000)
    assert full.quota is not None
    await full.states.save(ADA, "t", None, '"' + "x" * 498 + '"', None)
    more = replace(run(ADA, "more", "in_progress"), request=b"r" * 400)
    await stores.runs.commit(Commit([more]))
    full.quota.add(ADA, 408)
    with pytest.raises(LimitExceeded):
        await full.states.save(ADA, "u", None, '"' + "x" * 198 + '"', None)
    await stores.runs.delete("more")
    for number in range(12):
        await full.sessions.fork(ADA, "s", "", f"copy-{number}", always=True)
    with pytest.raises(LimitExceeded):
        await full.states.save(ADA, "u", None, '"' + "x" * 98 + '"', None)


class Watched:
    """A size store that records the calls, and waits when a test wants it to."""

    def __init__(self, sizes: SizeStore) -> None:
        self._sizes = sizes
        self.asked: list[str] = []
        self.slow: dict[str, asyncio.Event] = {}

    async def stored_bytes(self, whose: SizeScope) -> int:
        self.asked.append(whose.name)
        stored = await self._sizes.stored_bytes(whose)
        if (until := self.slow.get(whose.name)) is not None:
            await until.wait()
        return stored

    async def owners(self) -> AsyncIterator[Sequence[str]]:
        async for owners in self._sizes.owners():
            yield owners


async def watched(
    stores: Stores, *, per_user: int | None = None, per_tenant: int | None = None, learned: bool = True
) -> tuple[Watched, StorageQuota]:
    sizes = Watched(stores.sizes)
    found = StorageQuota(sizes, per_tenant=per_tenant, per_user=per_user)
    if learned:
        await found.warm_up()
    return sizes, found


async def test_everybody_who_has_something_stored_is_named(stores: Stores) -> None:
    await fill(stores, ADA)
    await stores.sessions.create("bea", "s", "{}")
    await stores.states.save("cleo", "s", None, "{}", None)
    await stores.memories.add([MemoryRecord("m", "dora", "", "x", 1.0)])
    await stores.runs.commit(Commit([run("eve", "r", "completed")], []))
    named = {owner async for owners in stores.sizes.owners() for owner in owners}
    assert named == {ADA, "bea", "cleo", "dora", "eve"}


async def test_owners_are_named_in_parts(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portico.core.stores.sqlite.stored_sizes.OWNERS", 2)
    memories = [MemoryRecord(f"m{n}", f"u{n // 3}", "", "x", 1.0) for n in range(15)]
    await stores.memories.add(memories)
    named = [owner async for owners in stores.sizes.owners() for owner in owners]
    assert sorted(named) == [f"u{n}" for n in range(5)]


async def test_who_has_nothing_stored_is_not_measured(stores: Stores) -> None:
    await fill(stores, ADA)
    sizes, found = await watched(stores, per_user=1000, per_tenant=10_000)
    for name in ("bob", "tenant:new:carol", "agent:a", "bob"):
        assert found.can_check_now(name, 100)
        await found.check_and_measure(name, 100)
    assert sizes.asked == []
    assert not found.can_check_now(ADA, 1)
    assert not found.can_check_now("tenant:acme:new", 1)
    await found.check_and_measure(ADA, 1)
    await found.check_and_measure("tenant:acme:new", 1)
    assert sizes.asked == [ADA, "acme"]


async def test_until_it_is_known_who_has_something_all_are_measured(stores: Stores) -> None:
    size = await fill(stores, "bob")
    sizes, found = await watched(stores, per_user=size + 10, learned=False)
    assert not found.can_check_now("bob", 11)
    assert not found.can_check_now("carol", 1)
    for name in ("bob", "carol"):
        await found.check_and_measure(name, 1)
    assert sizes.asked == ["bob", "carol"]
    await found.warm_up()
    assert found.can_check_now("dora", 1)


async def test_who_was_forgotten_is_measured_again(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_quota, "MAX_CACHED_OWNERS", 2)
    full = with_quota(stores, per_tenant=None, per_user=150)
    assert full.quota is not None
    await full.quota.warm_up()
    text = '"' + "x" * 98 + '"'
    await full.states.save("bob", "s", None, text, None)
    for name in ("c", "d", "e"):
        await full.states.save(name, "s", None, text, None)
    with pytest.raises(LimitExceeded, match="has 100 of 150"):
        await full.states.save("bob", "t", None, text, None)


async def test_what_one_has_stored_holds_up_nobody_else(stores: Stores) -> None:
    await fill(stores, "bob")
    await fill(stores, "carol")
    sizes, found = await watched(stores, per_user=10_000)
    sizes.slow["bob"] = asyncio.Event()
    slow = [asyncio.create_task(found.check_and_measure("bob", 1)) for _ in range(3)]
    async with asyncio.timeout(10):
        await found.check_and_measure("carol", 1)
    slow[0].cancel()
    await asyncio.gather(slow[0], return_exceptions=True)
    sizes.slow["bob"].set()
    await asyncio.gather(*slow[1:])
    assert sorted(sizes.asked) == ["bob", "carol"]


async def test_an_old_count_is_measured_while_others_go_on(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = await fill(stores, "bob")
    sizes, found = await watched(stores, per_user=size + 1000)
    await found.check_and_measure("bob", 10)
    monkeypatch.setattr(storage_quota, "MAX_COUNT_AGE_SECONDS", 0.0)
    sizes.slow["bob"] = asyncio.Event()
    assert found.can_check_now("bob", 10)
    await found.check_and_measure("bob", 500)
    sizes.slow["bob"].set()
    async with asyncio.timeout(10):
        while len(sizes.asked) < 2:
            await asyncio.sleep(0)
    monkeypatch.undo()
    # The bytes added during the measurement are still counted.
    with pytest.raises(LimitExceeded):
        await found.check_and_measure("bob", 501)


async def test_a_copy_made_while_its_owner_is_measured_counts(stores: Stores) -> None:
    size = await fill(stores, "bob")
    sizes, found = await watched(stores, per_user=size + 10)
    sizes.slow["bob"] = asyncio.Event()
    first = asyncio.create_task(found.check_and_measure("bob", 1))
    while not sizes.asked:
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)  # by now it has been called, and waits
    await stores.sessions.fork("bob", "s", "", "copy", always=True)
    found.invalidate("bob")
    second = asyncio.create_task(found.check_and_measure("bob", 1))
    await asyncio.sleep(0)
    sizes.slow["bob"].set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [LimitExceeded, LimitExceeded]


async def test_a_store_that_can_not_tell_refuses(stores: Stores) -> None:
    await fill(stores, "bob")
    sizes, found = await watched(stores, per_user=10_000)

    async def fail(whose: SizeScope) -> int:
        raise StoreUnavailable("no")

    sizes.stored_bytes = fail  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        await found.check_and_measure("bob", 1)
    await found.check_and_measure("carol", 1)
