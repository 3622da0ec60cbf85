import asyncio

import pytest

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
    created_at: float = 1.5,
    metadata: str = "",
    key: str = "",
    expires_at: float | None = None,
) -> MemoryRecord:
    return MemoryRecord(
        memory_id, user_id, session_id, text, created_at, metadata, key, created_at, expires_at
    )


async def found(
    memories: MemoryStore,
    query: str,
    *,
    user_id: str = "ada",
    session_id: str | None = None,
    limit: int = 10,
    **metadata: str,
) -> set[str]:
    hits = await memories.search(user_id, query, limit, session_id, parse_filter(None, metadata))
    return {hit.memory.memory_id for hit in hits}


async def listed(
    memories: MemoryStore,
    session_id: str | None = None,
    before: tuple[float, str] | None = None,
    limit: int = 10,
) -> list[str]:
    return [record.memory_id for record in await memories.list("ada", session_id, before, limit)]


async def test_a_memory_is_read_as_it_was_added(memories: MemoryStore) -> None:
    record = memory("m1", "naïve 记忆 \x00 🎉", session_id="", metadata='{"b": 1.50, "a": {"deep": []}}')
    await memories.add([record])
    assert await memories.list("ada", None, None, 10) == [record]
    hits = await memories.search("ada", "记忆", 10)
    assert [hit.memory for hit in hits] == [record]


async def test_a_memory_that_is_there_is_left_as_it_is(memories: MemoryStore) -> None:
    await memories.add([memory("m1", "first")])
    await memories.add([memory("m1", "second"), memory("m2", "third")])
    await memories.add([])
    assert await listed(memories) == ["m2", "m1"]
    assert await found(memories, "first second third") == {"m1", "m2"}
    assert await found(memories, "second") == set()


async def test_a_thousand_memories_are_added_in_one(memories: MemoryStore) -> None:
    await memories.add(
        [memory(f"m{number}", f"word{number}", metadata='{"k": "v"}') for number in range(1000)]
    )
    assert await found(memories, "word999", k="v") == {"m999"}


async def test_memories_are_added_all_or_none(memories: MemoryStore) -> None:
    with pytest.raises(ValueError):
        await memories.add([memory("m1"), memory("m2", metadata="not JSON")])
    assert await listed(memories) == []
    assert await found(memories, "penguin") == set()


async def test_adding_at_once_loses_nothing(memories: MemoryStore) -> None:
    await asyncio.gather(*(memories.add([memory(f"m{n}-{m}") for m in range(5)]) for n in range(10)))
    assert len(await found(memories, "penguins", limit=100)) == 50


async def test_the_best_memory_comes_first(memories: MemoryStore) -> None:
    await memories.add(
        [memory(f"f{number}", f"filler {number}") for number in range(5)]
        + [
            memory("one", "the penguin sleeps on the ice all day"),
            memory("both", "the penguin eats herring on the ice"),
        ]
    )
    hits = await memories.search("ada", "herring for penguins", 10)
    assert [hit.memory.memory_id for hit in hits] == ["both", "one"]
    assert hits[0].score > hits[1].score
    assert [hit.memory.memory_id for hit in await memories.search("ada", "herring penguin", 1)] == ["both"]


@pytest.mark.parametrize("query", ["", " ", "!?", '"', '" OR *', "NEAR(", "text:", "*", "((", "'"])
async def test_a_query_is_never_an_expression(memories: MemoryStore, query: str) -> None:
    await memories.add([memory("m1")])
    assert await found(memories, query) == set()
    assert await found(memories, f"{query} penguin") == {"m1"}


async def test_nobody_finds_lists_or_deletes_what_is_anothers(memories: MemoryStore) -> None:
    await memories.add([memory("m1"), memory("m2", user_id="bob")])
    assert await found(memories, "penguin") == {"m1"}
    assert await found(memories, "penguin", user_id="bob") == {"m2"}
    assert await found(memories, "penguin", user_id="eve") == set()
    assert await listed(memories) == ["m1"]
    assert await memories.delete("ada", None, "m2") == 0
    assert await memories.delete("eve", None, None) == 0
    assert await found(memories, "penguin", user_id="bob") == {"m2"}


async def test_a_search_may_be_within_one_session(memories: MemoryStore) -> None:
    await memories.add([memory("m1"), memory("m2", session_id="s2"), memory("m3", session_id="")])
    assert await found(memories, "penguin", session_id="s2") == {"m2"}
    assert await found(memories, "penguin") == {"m1", "m2", "m3"}


async def test_a_list_may_be_of_those_with_some_metadata(memories: MemoryStore) -> None:
    await memories.add([memory("a", metadata='{"place": "x"}'), memory("b", metadata='{"place": "y"}')])
    await memories.add([memory("c", created_at=2.5, metadata='{"place": "x", "key": 1}'), memory("d")])
    rows = await memories.list("ada", None, None, 10, filter=parse_filter(None, {"place": "x"}))
    assert [row.memory_id for row in rows] == ["c", "a"]
    rows = await memories.list("ada", None, None, 10, filter=parse_filter(None, {"place": "x", "key": "1"}))
    assert [row.memory_id for row in rows] == ["c"]
    assert await memories.list("bob", None, None, 10, filter=parse_filter(None, {"place": "x"})) == []


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ('"blue"', "blue"),
        ('"a \\"quoted\\" 值"', 'a "quoted" 值'),
        ("5", "5"),
        ("-12345678901234567890123", "-12345678901234567890123"),
        ("1.50", "1.50"),
        ("1e3", "1e3"),
        ("true", "true"),
        ("false", "false"),
        ('"5"', "5"),
        ('""', ""),
    ],
)
async def test_a_filter_compares_members_as_they_are_written(
    memories: MemoryStore, member: str, value: str
) -> None:
    await memories.add(
        [memory("m1", metadata=f'{{"name": {member}}}'), memory("m2", metadata='{"name": "x"}')]
    )
    assert await found(memories, "penguin", name=value) == {"m1"}


@pytest.mark.parametrize(
    ("metadata", "value"),
    [
        ('{"name": null}', "null"),
        ('{"name": null}', ""),
        ('{"name": {"a": 1}}', '{"a": 1}'),
        ('{"name": [1]}', "[1]"),
        ('{"outer": {"name": "x"}}', "x"),
        ('{"Name": "x"}', "x"),
        ('{"name": "xy"}', "x"),
        ('{"name": true}', "1"),
        ("{}", ""),
        ("", ""),
    ],
)
async def test_what_is_null_nested_or_absent_matches_no_filter(
    memories: MemoryStore, metadata: str, value: str
) -> None:
    await memories.add([memory("m1", metadata=metadata)])
    assert await found(memories, "penguin", name=value) == set()
    assert await found(memories, "penguin") == {"m1"}


async def test_all_members_of_a_filter_must_match_before_the_limit_counts(memories: MemoryStore) -> None:
    await memories.add([memory(f"f{number}", "penguin penguin") for number in range(5)])
    await memories.add(
        [
            memory("m1", metadata='{"a": 1, "b": 2, "$.c": "x"}'),
            memory("m2", metadata='{"a": 1, "b": 3}'),
        ]
    )
    assert await found(memories, "penguin", limit=1, a="1", b="3") == {"m2"}
    assert await found(memories, "penguin", a="1") == {"m1", "m2"}
    hits = await memories.search("ada", "penguin", 10, None, parse_filter(None, {"$.c": "x"}))
    assert [hit.memory.memory_id for hit in hits] == ["m1"]


async def test_memories_page_newest_first_without_skips_at_equal_times(memories: MemoryStore) -> None:
    await memories.add(
        [memory(name, created_at=time) for name, time in (("a", 2), ("c", 2), ("b", 2), ("d", 1))]
    )
    await memories.add([memory("e", session_id="s2", created_at=3)])
    assert await listed(memories) == ["e", "c", "b", "a", "d"]
    assert await listed(memories, "s1", limit=2) == ["c", "b"]
    assert await listed(memories, "s1", before=(2, "b")) == ["a", "d"]
    assert await listed(memories, before=(1, "d")) == []


async def test_deleted_memories_are_found_no_more(memories: MemoryStore) -> None:
    await memories.add([memory("m1", metadata='{"k": "v"}'), memory("m2"), memory("m3", session_id="s2")])
    assert await memories.delete("ada", "s2", "m1") == 0
    assert await memories.delete("ada", None, "m1") == 1
    assert await memories.delete("ada", None, "m1") == 0
    assert await found(memories, "penguin") == {"m2", "m3"}
    assert await memories.delete("ada", "s1", None) == 1
    assert await memories.delete("ada", None, None) == 1
    assert await found(memories, "penguin") == set()
    await memories.add([memory("m1")])
    assert await found(memories, "penguin") == {"m1"}
    assert await found(memories, "penguin", k="v") == set()


async def test_memories_that_were_added_before_a_time_expire_so_many_at_once(memories: MemoryStore) -> None:
    await memories.add([memory(f"m{age}", created_at=age, metadata='{"k": "v"}') for age in (1, 2, 3, 4)])
    assert await memories.expire(1, 10) == 0
    assert await memories.expire(4, 2) == 2
    assert await memories.expire(4, 2) == 1
    assert await found(memories, "penguin") == await found(memories, "penguin", k="v") == {"m4"}
