"""Deleted states in memory use no memory any more."""

from portico.core.stores.memory.states import MemoryStateStore


async def test_what_is_deleted_leaves_nothing_behind() -> None:
    store = MemoryStateStore(lambda user_id, session_id: True)
    for user_id in ("ada", "bob"):
        for part in ("", "framework"):
            await store.save(user_id, "s", 1, "{}", None, part)
            await store.save(user_id, "s", 2, "{}", None, part)
    await store.delete("ada", "s", 1)
    assert {place: list(rounds) for place, rounds in store._states["ada"].items()} == {
        ("s", ""): [2],
        ("s", "framework"): [2],
    }
    await store.delete("ada", "s", 2, "")
    assert list(store._states["ada"]) == [("s", "framework")]
    store.session_deleted("ada", "s")
    assert list(store._states) == ["bob"]
    assert await store.expire(float("inf"), 3) == 3
    assert await store.expire(float("inf"), 3) == 1
    assert not store._states
