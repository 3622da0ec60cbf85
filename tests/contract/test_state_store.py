import asyncio

import pytest

from portico.core.errors import EtagMismatch, SessionNotFound, StateNotFound
from portico.core.stores.ports.stores import StateStore, Stores


@pytest.fixture
def states(stores: Stores) -> StateStore:
    return stores.states


async def save(states: StateStore, session_id: str, *rounds: int, user_id: str = "ada") -> None:
    for round_id in rounds:
        await states.save(user_id, session_id, round_id, "{}", None)


async def places(
    states: StateStore, session_id: str | None = None, after: tuple[str, int] | None = None, limit: int = 99
) -> list[tuple[str, int]]:
    return [(row.session_id, row.round_id) for row in await states.list("ada", session_id, after, limit)]


async def test_a_state_is_read_as_it_was_saved(states: StateStore) -> None:
    text = '{"naïve": "状态 🎉 \\u0000"}'
    saved = await states.save("ada", "s1", 7, text, None)
    assert (saved.user_id, saved.session_id, saved.round_id, saved.state) == ("ada", "s1", 7, text)
    assert saved.updated_at > 1_600_000_000
    assert await states.get("ada", "s1", 7) == saved


async def test_a_state_of_megabytes_is_kept_whole(states: StateStore) -> None:
    text = '{"x": "' + "é" * 4_000_000 + '"}'
    await states.save("ada", "s1", None, text, None)
    assert (await states.get("ada", "s1", None)).state == text


async def test_rounds_count_from_one_and_go_on_after_the_greatest(states: StateStore) -> None:
    assert (await states.save("ada", "s1", None, "{}", None)).round_id == 1
    assert (await states.save("ada", "s1", None, "{}", None)).round_id == 2
    await save(states, "s1", 40)
    assert (await states.save("ada", "s1", None, "{}", None)).round_id == 41
    assert (await states.save("ada", "s2", None, "{}", None)).round_id == 1
    assert (await states.save("bob", "s1", None, "{}", None)).round_id == 1


async def test_twenty_savers_at_once_get_twenty_rounds(states: StateStore) -> None:
    saved = await asyncio.gather(*(states.save("ada", "s1", None, f'{{"n": {n}}}', None) for n in range(20)))
    assert sorted(record.round_id for record in saved) == list(range(1, 21))
    for record in saved:
        assert (await states.get("ada", "s1", record.round_id)).state == record.state


async def test_a_read_without_a_round_gets_the_greatest(states: StateStore) -> None:
    await save(states, "s1", 3, 9, 5)
    assert (await states.get("ada", "s1", None)).round_id == 9


async def test_what_was_not_saved_is_not_found(states: StateStore) -> None:
    await save(states, "s1", 1)
    for user_id, session_id, round_id in (("ada", "s1", 2), ("ada", "s2", None), ("bob", "s1", None)):
        with pytest.raises(StateNotFound) as caught:
            await states.get(user_id, session_id, round_id)
        assert caught.value.metadata == {"session_id": session_id}


async def test_a_named_round_is_overwritten_with_a_new_etag(states: StateStore) -> None:
    first = await states.save("ada", "s1", 1, '{"v": 1}', None)
    second = await states.save("ada", "s1", 1, '{"v": 2}', None)
    assert first.etag != second.etag
    assert (await states.get("ada", "s1", None)).state == '{"v": 2}'
    assert await places(states) == [("s1", 1)]


async def test_an_etag_lets_only_the_one_write_who_read_last(states: StateStore) -> None:
    first = await states.save("ada", "s1", 1, "{}", None)
    second = await states.save("ada", "s1", 1, "{}", first.etag)
    with pytest.raises(EtagMismatch) as caught:
        await states.save("ada", "s1", 1, '{"late": true}', first.etag)
    assert caught.value.metadata == {"etag": second.etag}
    assert (await states.get("ada", "s1", 1)).state == "{}"


async def test_an_etag_for_a_round_that_does_not_exist_does_not_match(states: StateStore) -> None:
    with pytest.raises(EtagMismatch):
        await states.save("ada", "s1", 1, "{}", "anything")
    with pytest.raises(StateNotFound):
        await states.get("ada", "s1", None)


async def test_a_star_writes_only_a_round_that_is_new(states: StateStore) -> None:
    await states.save("ada", "s1", 1, "{}", "*")
    with pytest.raises(EtagMismatch):
        await states.save("ada", "s1", 1, "{}", "*")
    await states.save("ada", "s1", 2, "{}", "*")


async def test_without_a_round_the_etag_is_the_latest_rounds(states: StateStore) -> None:
    first = await states.save("ada", "s1", None, "{}", "*")
    second = await states.save("ada", "s1", None, "{}", first.etag)
    assert second.round_id == 2
    for stale in (first.etag, "*"):
        with pytest.raises(EtagMismatch) as caught:
            await states.save("ada", "s1", None, "{}", stale)
        assert caught.value.metadata == {"etag": second.etag}


async def test_of_savers_at_once_with_one_etag_one_wins(states: StateStore) -> None:
    first = await states.save("ada", "s1", 1, "{}", None)
    results = await asyncio.gather(
        *(states.save("ada", "s1", 1, "{}", first.etag) for _ in range(10)), return_exceptions=True
    )
    assert sum(not isinstance(result, EtagMismatch) for result in results) == 1


async def test_states_are_listed_by_session_and_round_without_contents(states: StateStore) -> None:
    await save(states, "s2", 1)
    await save(states, "s1", 10, 9)
    await save(states, "s1", 1, user_id="bob")
    assert await places(states) == [("s1", 9), ("s1", 10), ("s2", 1)]
    assert await places(states, "s1") == [("s1", 9), ("s1", 10)]
    listed = (await states.list("ada", None, None, 1))[0]
    assert listed.state == ""
    assert listed.etag == (await states.get("ada", "s1", 9)).etag


async def test_pages_of_states_neither_skip_nor_repeat(states: StateStore) -> None:
    for session_id in ("会话", "a", "Z", "é"):
        await save(states, session_id, 1, 2, 3)
    everything = await places(states)
    assert [session_id for session_id, _ in everything[::3]] == ["Z", "a", "é", "会话"]
    seen: list[tuple[str, int]] = []
    while page := await places(states, after=seen[-1] if seen else None, limit=5):
        seen += page
    assert seen == everything
    assert await places(states, "a", after=("a", 2)) == [("a", 3)]


async def test_a_round_a_session_or_all_of_a_user_are_deleted(states: StateStore) -> None:
    await save(states, "s1", 1, 2, 3)
    await save(states, "s2", 1)
    await save(states, "s1", 1, user_id="bob")
    assert await states.delete("ada", "s1", 2) == 1
    assert await states.delete("ada", "s1", 2) == 0
    assert await states.delete("ada", "s1", None) == 2
    assert await places(states) == [("s2", 1)]
    assert await states.delete("ada", None, None) == 1
    assert await states.delete("nobody", None, None) == 0
    assert (await states.get("bob", "s1", None)).round_id == 1


async def test_a_part_has_rounds_and_etags_of_its_own(stores: Stores, states: StateStore) -> None:
    await stores.sessions.create("ada", "s1", "")
    own = await states.save("ada", "s1", None, '{"of": "agent"}', None)
    first = await states.save("ada", "s1", None, '{"of": "part"}', "*", "agno")
    second = await states.save("ada", "s1", None, "{}", first.etag, "agno")
    assert (own.round_id, first.round_id, second.round_id) == (1, 1, 2)
    with pytest.raises(EtagMismatch):
        await states.save("ada", "s1", None, "{}", own.etag, "agno")
    assert (await states.get("ada", "s1", None)).state == '{"of": "agent"}'
    assert (await states.get("ada", "s1", 1, "agno")).state == '{"of": "part"}'
    assert (await states.get("ada", "s1", None, "agno")).round_id == 2
    with pytest.raises(StateNotFound):
        await states.get("ada", "s1", 2)
    with pytest.raises(StateNotFound):
        await states.get("ada", "s1", 1, "autogen")


async def test_lists_show_no_parts(stores: Stores, states: StateStore) -> None:
    await stores.sessions.create("ada", "s1", "")
    await states.save("ada", "s1", 5, "{}", None, "agno")
    assert await places(states) == await places(states, "s1") == []
    await save(states, "s1#agno", 1)
    await save(states, "s1", 2)
    assert await places(states) == [("s1", 2), ("s1#agno", 1)]


async def test_parts_are_deleted_one_by_one_or_with_their_session(stores: Stores, states: StateStore) -> None:
    for session_id in ("s1", "s2"):
        await stores.sessions.create("ada", session_id, "")
        await save(states, session_id, 1, 2)
        for part in ("agno", "langgraph:t"):
            for round_id in (1, 2):
                await states.save("ada", session_id, round_id, "{}", None, part)
    assert await states.delete("ada", "s1", 2, "agno") == 1
    assert await states.delete("ada", "s1", None, "langgraph:t") == 2
    assert await states.delete("ada", "s1", None, "") == 2
    assert await states.delete("ada", "s1", None) == 1
    assert await states.delete("ada", None, None) == 6
    assert await states.delete("ada", None, None) == 0


async def test_a_session_takes_its_state_with_it_and_nobody_elses(stores: Stores, states: StateStore) -> None:
    for user_id, session_id in (("ada", "s1"), ("ada", "s2"), ("bob", "s1")):
        await stores.sessions.create(user_id, session_id, "")
        await save(states, session_id, 1, 2, user_id=user_id)
        await states.save(user_id, session_id, 1, "{}", None, "agno")
    with pytest.raises(SessionNotFound):
        await stores.sessions.delete("ada", "s1", idle_since=1.0)
    assert await places(states) == [("s1", 1), ("s1", 2), ("s2", 1), ("s2", 2)]
    await stores.sessions.delete("ada", "s1")
    assert await places(states) == [("s2", 1), ("s2", 2)]
    assert await states.delete("ada", "s1", None) == 0
    assert await states.delete("ada", "s2", None) == await states.delete("bob", "s1", None) == 3


async def test_a_part_is_saved_only_while_its_session_exists(stores: Stores, states: StateStore) -> None:
    with pytest.raises(SessionNotFound):
        await states.save("ada", "s1", None, "{}", None, "agno")
    await stores.sessions.create("ada", "s1", "")
    await states.save("ada", "s1", None, "{}", None, "agno")
    await stores.sessions.delete("ada", "s1")
    with pytest.raises(SessionNotFound):
        await states.save("ada", "s1", 1, "{}", None, "agno")
    assert await states.delete("ada", None, None) == 0


async def test_states_that_were_saved_before_a_time_expire_so_many_at_once(states: StateStore) -> None:
    await save(states, "s1", 1, 2, 3)
    since = (await states.get("ada", "s1", 1)).updated_at
    assert await states.expire(since, 10) == 0
    later = (await states.get("ada", "s1", 3)).updated_at + 1
    assert await states.expire(later, 2) == 2
    assert await states.expire(later, 2) == 1
    assert await places(states) == []


async def test_parts_expire_like_an_agents_own_state(stores: Stores, states: StateStore) -> None:
    await stores.sessions.create("ada", "s1", "")
    await save(states, "s1", 1)
    last = await states.save("ada", "s1", 1, "{}", None, "agno")
    assert await states.expire(last.updated_at + 1, 10) == 2
    assert await states.delete("ada", None, None) == 0
