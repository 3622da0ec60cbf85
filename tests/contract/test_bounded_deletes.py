"""Large deletes let other calls run in between, in every store."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from portico.core.errors import SessionNotFound
from portico.core.stores.ports.stores import MemoryRecord, NewMessage, Stores

COUNT = 1_500


async def fill_memories(stores: Stores) -> None:
    await stores.memories.add(
        [MemoryRecord(f"m{n}", "ada", "s1", "penguin", 1.0, '{"k": "v"}') for n in range(COUNT)]
    )


async def fill_session(stores: Stores) -> None:
    await stores.sessions.create("ada", "s1", "")
    said = [NewMessage("ada", "s1", f"m{n}", "user", "penguin", b"p", 1.0) for n in range(COUNT)]
    await stores.sessions.append("ada", "s1", said)


async def fill_states(stores: Stores) -> None:
    for number in range(COUNT):
        await stores.states.save("ada", "s1", number, "{}", None)


async def delete_session(stores: Stores) -> None:
    await stores.sessions.delete("ada", "s1")


DELETES: dict[str, tuple[Callable[[Stores], Awaitable[None]], Callable[[Stores], Awaitable[object]]]] = {
    "memories": (fill_memories, lambda stores: stores.memories.delete("ada", None, None)),
    "session": (fill_session, delete_session),
    "states": (fill_states, lambda stores: stores.states.delete("ada", None, None)),
}


async def left(stores: Stores) -> list[int]:
    try:
        messages = len(await stores.sessions.messages("ada", "s1", None, COUNT, False))
    except SessionNotFound:
        messages = 0
    memories = await stores.memories.list("ada", None, None, COUNT)
    states = await stores.states.list("ada", None, None, COUNT)
    return [len(memories), messages, len(states)]


@pytest.mark.parametrize("what", DELETES)
async def test_others_write_between_the_steps_of_a_delete(stores: Stores, what: str) -> None:
    fill, delete = DELETES[what]
    await fill(stores)
    deleting = asyncio.ensure_future(delete(stores))
    written = 0
    while not deleting.done():
        await stores.memories.add([MemoryRecord(f"b{written}", "bob", "s1", "herring", 1.0)])
        written += 1
        await asyncio.sleep(0)
    await deleting
    assert written > 5
    assert await left(stores) == [0, 0, 0]
    assert len(await stores.memories.list("bob", None, None, written + 1)) == written


@pytest.mark.parametrize("what", DELETES)
async def test_a_delete_that_was_cut_off_is_finished_by_the_next(stores: Stores, what: str) -> None:
    fill, delete = DELETES[what]
    await fill(stores)
    deleting = asyncio.ensure_future(delete(stores))
    while sum(await left(stores)) == COUNT:
        await asyncio.sleep(0)
    deleting.cancel()
    await asyncio.gather(deleting, return_exceptions=True)
    rest = sum(await left(stores))
    assert 0 < rest < COUNT
    hits = await stores.memories.search("ada", "penguin", COUNT)
    assert len(hits) in (0, rest)
    await delete(stores)
    assert await left(stores) == [0, 0, 0]
    assert not await stores.memories.search("ada", "penguin", COUNT)
    assert not await stores.sessions.search("ada", "penguin", None, COUNT)


@pytest.mark.parametrize("what", DELETES)
async def test_two_who_delete_the_same_remove_each_once(stores: Stores, what: str) -> None:
    fill, delete = DELETES[what]
    await fill(stores)
    told = await asyncio.gather(delete(stores), delete(stores), return_exceptions=True)
    if what == "session":
        assert all(answer is None or isinstance(answer, SessionNotFound) for answer in told)
        assert None in told
    else:
        assert sum(number for number in told if isinstance(number, int)) == COUNT
    assert await left(stores) == [0, 0, 0]
