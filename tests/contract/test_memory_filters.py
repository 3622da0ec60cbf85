import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest

from portico.core.errors import MemoryNotFound
from portico.core.stores.ports.memory_filters import parse_filter
from portico.core.stores.ports.stores import MemoryRecord, MemoryStore, Stores

ALL: dict[str, dict[str, Any]] = {
    "text": {"v": "blue"},
    "longer": {"v": "blueish"},
    "upper": {"v": "Blue"},
    "digits": {"v": "5"},
    "empty": {"v": ""},
    "five": {"v": 5},
    "half": {"v": 5.0},
    "ten": {"v": 10},
    "minus": {"v": -1.5},
    "huge": {"v": 10**400},
    "true": {"v": True},
    "false": {"v": False},
    "null": {"v": None},
    "list": {"v": ["blue"]},
    "object": {"v": {"w": "blue"}},
    "deep": {"v": {"w": {"x": 1}}},
    "other": {"V": "blue"},
    "none": {},
}
PRESENT = set(ALL) - {"other", "none"}


@pytest.fixture
async def memories(stores: Stores) -> MemoryStore:
    await stores.memories.add(
        [
            MemoryRecord(name, owner, "s1", "a penguin", 1.5, json.dumps(metadata))
            for owner in ("ada",)
            for name, metadata in ALL.items()
        ]
    )
    # Another user's memory, which no filter of ada's may find.
    await stores.memories.add([MemoryRecord("bob's", "bob", "s1", "a penguin", 1.5, '{"v": "blue"}')])
    return stores.memories


def one(operator: str, value: Any, *path: str) -> dict[str, Any]:
    return {"path": list(path or ("v",)), "operator": operator, "value": value}


@pytest.mark.parametrize(
    ("operator", "value", "chosen"),
    [
        ("eq", "blue", {"text"}),
        ("eq", "", {"empty"}),
        ("eq", "5", {"digits"}),
        ("eq", 5, {"five", "half"}),
        ("eq", 5.0, {"five", "half"}),
        ("eq", True, {"true"}),
        ("eq", False, {"false"}),
        ("eq", None, {"null"}),
        ("eq", 1, set()),
        ("eq", "true", set()),
        ("ne", "blue", set(ALL) - {"text"}),
        ("ne", None, set(ALL) - {"null"}),
        ("lt", 5, {"minus"}),
        ("le", 5, {"minus", "five", "half"}),
        ("gt", 5, {"ten", "huge"}),
        ("ge", 10, {"ten", "huge"}),
        ("lt", "blue", {"empty", "digits", "upper"}),
        ("le", "blue", {"empty", "digits", "upper", "text"}),
        ("gt", "blue", {"longer"}),
        ("ge", "blue", {"longer", "text"}),
        ("in", ["blue", 5, None], {"text", "five", "half", "null"}),
        ("in", [True, "5"], {"true", "digits"}),
        ("not_in", ["blue", 5, None, True], set(ALL) - {"text", "five", "half", "null", "true"}),
        ("exists", True, PRESENT),
        ("exists", False, {"other", "none"}),
        ("prefix", "blue", {"text", "longer"}),
        ("prefix", "", {"text", "longer", "upper", "digits", "empty"}),
        ("prefix", "5", {"digits"}),
        ("prefix", "b%", set()),
    ],
)
async def test_a_member_is_compared_by_its_kind(
    memories: MemoryStore, operator: str, value: Any, chosen: set[str]
) -> None:
    asked = parse_filter({"all": [one(operator, value)]})
    hits = await memories.search("ada", "penguin", 100, filter=asked)
    assert {hit.memory.memory_id for hit in hits} == chosen
    rows = await memories.list("ada", None, None, 100, filter=asked)
    assert {row.memory_id for row in rows} == chosen
    assert await memories.delete("ada", None, None, filter=asked) == len(chosen)
    assert {row.memory_id for row in await memories.list("ada", None, None, 100)} == set(ALL) - chosen
    assert len(await memories.list("bob", None, None, 100)) == 1


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ({}, set(ALL)),
        ({"all": [one("eq", "blue", "v", "w")]}, {"object"}),
        ({"all": [one("eq", 1, "v", "w", "x")]}, {"deep"}),
        ({"all": [one("exists", True, "v", "w")]}, {"object", "deep"}),
        ({"all": [{"path": "v", "operator": "eq", "value": "blue"}]}, {"text"}),
        ({"all": [one("ge", 0), one("lt", 10)]}, {"five", "half"}),
        ({"any": [[one("eq", "blue"), one("eq", "blue", "V")]]}, {"text", "other"}),
        (
            {"all": [one("exists", True)], "any": [[one("eq", 5), one("eq", 10)], [one("gt", 5)]]},
            {"ten"},
        ),
    ],
)
async def test_conditions_are_put_together(
    memories: MemoryStore, asked: dict[str, Any], chosen: set[str]
) -> None:
    rows = await memories.list("ada", None, None, 100, filter=parse_filter(asked))
    assert {row.memory_id for row in rows} == chosen


@pytest.mark.parametrize(
    ("begin", "other"),
    [
        ("a\x00", "a\x01"),
        ("\ud7ff", "\ue000"),
        ("\U0010ffff", "\U0010fffe"),
        ("a\U0010ffff", "b"),
        ("ß", "ss"),
        ("_", "a"),
        ("記", "记"),
    ],
)
async def test_a_prefix_is_the_same_text(stores: Stores, begin: str, other: str) -> None:
    values = {"same": begin, "more": f"{begin}\U0010ffff\x00x", "other": other, "shorter": begin[:-1]}
    await stores.memories.add(
        [
            MemoryRecord(name, "ada", "", "a penguin", 1.5, json.dumps({"v": value}, ensure_ascii=False))
            for name, value in values.items()
        ]
    )
    asked = parse_filter({"all": [one("prefix", begin)]})
    rows = await stores.memories.list("ada", None, None, 10, filter=asked)
    assert {row.memory_id for row in rows} == {"same", "more"}


async def test_a_text_that_is_longer_than_any_filter_is_not_equal_to_its_beginning(stores: Stores) -> None:
    long = "x" * 1024
    await stores.memories.add(
        [
            MemoryRecord(f"m{more}", "ada", "", "a penguin", 1.5, json.dumps({"v": long + "y" * more}))
            for more in (0, 1, 5000)
        ]
    )

    async def chosen(operator: str) -> set[str]:
        asked = parse_filter({"all": [one(operator, long)]})
        return {row.memory_id for row in await stores.memories.list("ada", None, None, 10, filter=asked)}

    assert await chosen("eq") == {"m0"}
    assert await chosen("prefix") == {"m0", "m1", "m5000"}
    assert await chosen("gt") == {"m1", "m5000"}


async def test_names_of_members_are_no_syntax(stores: Stores) -> None:
    names = ['a"b', "a.b", "$.a", '["a"]', "a,b", "值", "", "a\nb", "%"]
    await stores.memories.add(
        [
            MemoryRecord(f"m{n}", "ada", "", "a penguin", 1.5, json.dumps({name: n}, ensure_ascii=False))
            for n, name in enumerate(names)
        ]
    )
    for n, name in enumerate(names):
        asked = parse_filter({"all": [one("exists", True, name)]})
        rows = await stores.memories.list("ada", None, None, 20, filter=asked)
        assert [row.memory_id for row in rows] == [f"m{n}"]


async def test_a_filter_finds_a_few_among_many(stores: Stores) -> None:
    many = 1500
    await stores.memories.add(
        [
            MemoryRecord(f"m{n:04}", "ada", f"s{n % 2}", "a penguin", float(n // 10), f'{{"n": {n % 100}}}')
            for n in range(many)
        ]
    )
    asked = parse_filter({"all": [one("eq", 7, "n")]})
    fitting = [f"m{n:04}" for n in range(7, many, 100)][::-1]

    async def listed(limit: int, before: tuple[float, str] | None = None) -> list[str]:
        rows = await stores.memories.list("ada", None, before, limit, filter=asked)
        return [row.memory_id for row in rows]

    assert await listed(5) == fitting[:5]
    assert await listed(5, (many / 10 - 50, "m1000")) == fitting[5:10]
    assert await listed(100) == fitting
    assert await stores.memories.list("ada", "s0", None, 10, filter=asked) == []
    assert await stores.memories.delete("bob", None, None, filter=asked) == 0
    assert await stores.memories.delete("ada", "s1", None, filter=asked) == len(fitting)
    assert await listed(100) == []
    assert len(await stores.memories.list("ada", None, None, many)) == many - len(fitting)


async def test_a_delete_by_a_filter_takes_what_is_added_meanwhile_or_leaves_it(stores: Stores) -> None:
    await stores.memories.add(
        [MemoryRecord(f"m{n}", "ada", "", "a penguin", float(n), '{"n": 1}') for n in range(900)]
    )

    async def change() -> None:
        for n in range(0, 900, 90):
            with suppress(MemoryNotFound):
                await stores.memories.update("ada", f"m{n}", {"metadata": '{"n": 2}'})
            await stores.memories.add([MemoryRecord(f"x{n}", "ada", "", "x", float(n), '{"n": 1}')])

    asked = parse_filter({"all": [one("eq", 1, "n")]})
    deleted, _ = await asyncio.gather(stores.memories.delete("ada", None, None, filter=asked), change())
    left = await stores.memories.list("ada", None, None, 1000)
    assert deleted + len(left) == 910
    assert {row.metadata for row in left if row.memory_id.startswith("m")} <= {'{"n": 2}'}
