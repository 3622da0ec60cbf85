import asyncio
import time

import pytest

from portico.core.errors import MemoryNotFound
from portico.core.stores.ports.memory_filters import parse_filter
from portico.core.stores.ports.stores import MemoryRecord, MemoryStore, Stores


@pytest.fixture
def memories(stores: Stores) -> MemoryStore:
    return stores.memories


def memory(
    memory_id: str,
    text: str = "a penguin",
    *,
    user_id: str = "ada",
    session_id: str = "s1",
    at: float = 1.5,
    metadata: str = "",
    key: str = "",
    expires_at: float | None = None,
) -> MemoryRecord:
    return MemoryRecord(memory_id, user_id, session_id, text, at, metadata, key, at, expires_at)


async def found(memories: MemoryStore, query: str, user_id: str = "ada") -> list[str]:
    return [hit.memory.memory_id for hit in await memories.search(user_id, query, 100)]


async def test_a_memory_is_got_by_its_id_and_by_its_key(memories: MemoryStore) -> None:
    one = memory("m1", key="k", metadata='{"a": 1}', expires_at=time.time() + 1000)
    assert await memories.add([one, memory("m2")]) == [one, memory("m2")]
    assert await memories.get("ada", "m1") == await memories.get("ada", key="k") == one
    for user_id, memory_id, key in (
        ("bob", "m1", None),
        ("bob", None, "k"),
        ("ada", "m3", None),
        ("ada", None, "K"),
        ("ada", None, ""),
        ("ada", "m2", "k"),
    ):
        with pytest.raises(MemoryNotFound):
            await memories.get(user_id, memory_id, key=key)


async def test_a_memory_with_a_key_replaces_the_one_that_has_it(memories: MemoryStore) -> None:
    await memories.add([memory("m1", "a penguin", key="k", metadata='{"a": 1, "b": 2}')])
    new = memory("m2", "a walrus", key="k", session_id="s2", at=9.5, metadata='{"a": 3}')
    (stored,) = await memories.add([new])
    kept = MemoryRecord("m1", "ada", "s2", "a walrus", 1.5, '{"a": 3}', "k", 9.5)
    assert stored == kept
    assert await memories.list("ada", None, None, 10) == [kept]
    assert await found(memories, "walrus") == ["m1"]
    assert await found(memories, "penguin") == []
    for asked, chosen in (({"a": "3"}, 1), ({"a": "1"}, 0), ({"b": "2"}, 0)):
        rows = await memories.list("ada", None, None, 10, filter=parse_filter(None, asked))
        assert len(rows) == chosen


async def test_keys_of_two_users_are_two_keys(memories: MemoryStore) -> None:
    await memories.add([memory("m1", key="k"), memory("m2", user_id="bob", key="k")])
    await memories.add([memory("m3", "a walrus", user_id="bob", key="k")])
    assert (await memories.get("ada", key="k")).text == "a penguin"
    assert (await memories.get("bob", key="k")).text == "a walrus"
    assert await memories.delete("bob", None, None, key="k") == 1
    assert (await memories.get("ada", key="k")).memory_id == "m1"


async def test_memories_without_a_key_never_replace_one_another(memories: MemoryStore) -> None:
    await memories.add([memory("m1"), memory("m2")])
    await memories.add([memory("m3")])
    assert len(await memories.list("ada", None, None, 10)) == 3
    assert await memories.delete("ada", None, None, key="") == 0


async def test_of_many_who_add_one_key_at_once_one_memory_is_left(memories: MemoryStore) -> None:
    added = await asyncio.gather(
        *(memories.add([memory(f"m{n}", f"word{n}", key="k"), memory(f"x{n}")]) for n in range(20))
    )
    left = [row for row in await memories.list("ada", None, None, 100) if row.key == "k"]
    assert len(left) == 1
    assert {rows[0].memory_id for rows in added} == {left[0].memory_id}
    assert await found(memories, " ".join(f"word{n}" for n in range(20))) == [left[0].memory_id]
    assert await memories.delete("ada", None, None, key="k") == 1
    assert await found(memories, " ".join(f"word{n}" for n in range(20))) == []


async def test_of_one_key_in_one_call_the_last_is_kept(memories: MemoryStore) -> None:
    stored = await memories.add([memory("m1", "first", key="k"), memory("m2", "second", key="k")])
    (left,) = await memories.list("ada", None, None, 10)
    assert left.text == "second"
    assert stored == [left, left]


async def test_a_key_is_free_again_when_its_memory_is_deleted(memories: MemoryStore) -> None:
    await memories.add([memory("m1", key="k")])
    assert await memories.delete("ada", None, None, key="k") == 1
    assert await memories.delete("ada", None, None, key="k") == 0
    (new,) = await memories.add([memory("m2", key="k", at=7.5)])
    assert (new.memory_id, new.created_at) == ("m2", 7.5)


async def test_nothing_is_replaced_if_one_of_a_call_can_not_be_stored(memories: MemoryStore) -> None:
    await memories.add([memory("m1", key="k")])
    with pytest.raises(ValueError):
        await memories.add([memory("m2", "a walrus", key="k"), memory("m3", metadata="not JSON")])
    assert await memories.list("ada", None, None, 10) == [memory("m1", key="k")]
    assert await found(memories, "penguin") == ["m1"]


async def test_fields_of_a_memory_are_replaced(memories: MemoryStore) -> None:
    await memories.add([memory("m1", key="k", metadata='{"a": 1}')])
    changed = await memories.update("ada", "m1", {"text": "a walrus", "updated_at": 5.5})
    assert changed == MemoryRecord("m1", "ada", "s1", "a walrus", 1.5, '{"a": 1}', "k", 5.5)
    assert await memories.get("ada", "m1") == changed
    assert await found(memories, "walrus") == ["m1"]
    assert await found(memories, "penguin") == []
    changed = await memories.update("ada", "m1", {"metadata": '{"b": 2}', "session_id": "s2"})
    assert (changed.metadata, changed.session_id) == ('{"b": 2}', "s2")
    assert [hit.memory for hit in await memories.search("ada", "walrus", 10, "s2")] == [changed]
    assert await memories.search("ada", "walrus", 10, "s1") == []
    assert await memories.list("ada", None, None, 10, filter=parse_filter(None, {"a": "1"})) == []
    assert await memories.list("ada", None, None, 10, filter=parse_filter(None, {"b": "2"})) == [changed]


async def test_nobody_changes_what_is_anothers_or_not_there(memories: MemoryStore) -> None:
    await memories.add([memory("m1"), memory("old", expires_at=5.0)])
    for user_id, memory_id in (("bob", "m1"), ("ada", "m2"), ("ada", "old")):
        with pytest.raises(MemoryNotFound):
            await memories.update(user_id, memory_id, {"text": "a walrus"})
    assert await memories.get("ada", "m1") == memory("m1")


async def test_a_change_that_can_not_be_stored_changes_nothing(memories: MemoryStore) -> None:
    await memories.add([memory("m1")])
    with pytest.raises(ValueError):
        await memories.update("ada", "m1", {"text": "a walrus", "metadata": "not JSON"})
    assert await memories.get("ada", "m1") == memory("m1")
    assert await found(memories, "penguin") == ["m1"]


async def test_what_has_expired_is_found_no_more(memories: MemoryStore) -> None:
    now = time.time()
    await memories.add(
        [memory("old", key="k", expires_at=now - 1), memory("new", expires_at=now + 1000), memory("always")]
    )
    assert sorted(await found(memories, "penguin")) == ["always", "new"]
    assert {row.memory_id for row in await memories.list("ada", None, None, 10)} == {"always", "new"}
    for memory_id, key in (("old", None), (None, "k")):
        with pytest.raises(MemoryNotFound):
            await memories.get("ada", memory_id, key=key)


async def test_the_key_of_what_has_expired_is_free(memories: MemoryStore) -> None:
    await memories.add([memory("old", "a walrus", key="k", expires_at=5.0)])
    (new,) = await memories.add([memory("new", key="k", at=7.5)])
    assert new == memory("new", key="k", at=7.5)
    assert await memories.get("ada", key="k") == new
    assert await memories.remove_expired(time.time(), 10) == 0
    assert await memories.delete("ada", None, None) == 1


async def test_what_has_expired_is_removed_so_many_at_once(memories: MemoryStore) -> None:
    await memories.add([memory(f"m{n}", user_id=f"u{n}", expires_at=float(n)) for n in range(1, 5)])
    assert await memories.remove_expired(0.5, 10) == 0
    assert await memories.remove_expired(3.0, 2) == 2
    assert await memories.remove_expired(3.0, 2) == 1
    assert await memories.remove_expired(3.0, 2) == 0
    assert await memories.delete("u4", None, None) == 1


async def test_everything_of_a_user_goes_also_what_has_expired(memories: MemoryStore) -> None:
    await memories.add([memory("m1"), memory("m2", expires_at=5.0)])
    assert await memories.delete("ada", None, None) == 2
    assert await memories.remove_expired(time.time(), 10) == 0


async def test_age_counts_from_the_last_change(memories: MemoryStore) -> None:
    await memories.add([memory("m1"), memory("m2")])
    await memories.update("ada", "m1", {"text": "a walrus", "updated_at": 50.0})
    assert await memories.expire(10.0, 10) == 1
    assert [row.memory_id for row in await memories.list("ada", None, None, 10)] == ["m1"]
