"""Compares the store with LangGraph's own: the same operations on both have the same results."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore
from support.serving import running_core

from portico.agent import AgentApp, Context
from portico.client import Client
from portico.frameworks.langgraph import PorticoStore

Work = Callable[[Context], Awaitable[None]]
InARun = Callable[[Work], Awaitable[None]]


@pytest.fixture(params=["memory://", "sqlite"])
async def in_a_run(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[InARun]:
    """Executes work with the context of a run; its exceptions reach the test."""
    works: list[Work] = []
    raised: list[BaseException] = []
    app = AgentApp("worker")

    @app.query
    async def query(context: Context) -> str:
        try:
            await works.pop()(context)
        except BaseException as error:
            raised.append(error)
        return "done"

    store = request.param if request.param == "memory://" else f"sqlite:///{tmp_path}/core.db"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running_core([app], tmp_path, store=store))
        client = await stack.enter_async_context(Client(f"unix:{tmp_path}/core.sock"))

        async def run(work: Work) -> None:
            works.append(work)
            await client.runs.query("go", session_id="s", user_id="u").text()
            if raised:
                raise raised[0]

        yield run


def told(items: Any) -> list[tuple[Any, ...]]:
    return sorted(((item.namespace, item.key, item.value) for item in items), key=repr)


NAMESPACES: list[tuple[str, ...]] = [
    ("users",), ("users", "ada"), ("users", "ada", "likes"), ("users", "adam"), ("users", "bob"),
    ("a", "b"), ('a"', "b"), ("a,b",), ("ü", "日本"), ("a*", "x"), ("x" * 1500, "y"), ("x" * 1500, "z"),
]  # fmt: skip
VALUES: list[dict[str, Any]] = [
    {"n": 1, "s": "x", "b": True, "o": {"a": 1, "l": [1, 2]}, "l": [1, {"k": "v"}], "z": None},
    {"n": 0, "s": "", "b": False, "o": {}, "l": [], "z": 0},
    {"n": 1.5, "s": "1", "b": 1, "o": {"a": "1"}, "l": "x", "z": "None"},
    {"n": 2**60, "s": "日本", "b": 0, "o": {"a": {"deep": [None]}}, "l": [[1]], "z": False},
    {"n": -3, "s": "x" * 3000, "b": True, "o": {"a": 1}, "l": [1, {"k": "w"}], "z": 1},
]
FILTERS: list[dict[str, Any]] = [
    {"n": 1}, {"n": True}, {"n": 0}, {"n": 1.0}, {"n": 2**60}, {"n": 2**60 + 1}, {"b": 1}, {"b": False},
    {"s": "x"}, {"s": ""}, {"s": "1"}, {"s": 1}, {"s": "x" * 3000}, {"z": None}, {"missing": None},
    {"missing": 1}, {"o": {"a": 1}}, {"o": {}}, {"l": [1, {"k": "v"}]}, {"l": []}, {"l": (1, {"k": "w"})},
    {"n": {"$eq": 1}}, {"n": {"$ne": 1}}, {"s": {"$ne": "x"}}, {"z": {"$ne": None}}, {"missing": {"$ne": 1}},
    {"n": {"$ne": 2**60 + 1}}, {"n": {"$gt": 0}}, {"n": {"$gte": 1, "$lt": 2}}, {"n": {"$lte": 0.5}},
    {"b": {"$gt": 0}}, {"n": {"$gt": 0}, "s": "x"}, {"s": "x", "b": True, "n": 1}, {"o": {"a": {"$eq": 1}}},
    {"n" * 300: 1}, {"n": float("inf")}, {f"k{number}": None for number in range(40)},
]  # fmt: skip
CONDITIONS: list[dict[str, Any]] = [
    {}, {"prefix": ("users",)}, {"prefix": ("users", "*")}, {"prefix": ("*", "ada")}, {"suffix": ("likes",)},
    {"suffix": ("*",)}, {"prefix": ("users",), "suffix": ("ada",)}, {"prefix": ("users", "ada", "x")},
    {"max_depth": 1}, {"prefix": ("users",), "max_depth": 2}, {"limit": 3}, {"limit": 3, "offset": 2},
    {"limit": 0}, {"offset": 100}, {"prefix": ("a*",)}, {"prefix": ("x" * 1500,)}, {"prefix": ('a"',)},
]  # fmt: skip


async def filled(*stores: BaseStore) -> None:
    for store in stores:
        for index, namespace in enumerate(NAMESPACES):
            for number, value in enumerate(VALUES):
                await store.aput(namespace, f"k{number}", {**value, "i": index})


async def test_filters_and_prefixes_mean_the_same(in_a_run: InARun) -> None:
    async def work(context: Context) -> None:
        ours, its = PorticoStore(context), InMemoryStore()
        await filled(ours, its)
        for prefix in [(), *NAMESPACES, ("users", "a"), ("user",), ("nowhere",), ("x" * 1500,)]:
            expected = told(await its.asearch(prefix, limit=1000))
            assert told(await ours.asearch(prefix, limit=1000)) == expected, prefix
        for prefix in ((), ("users", "ada")):
            for wanted in FILTERS:
                expected = told(await its.asearch(prefix, filter=wanted, limit=1000))
                assert told(await ours.asearch(prefix, filter=wanted, limit=1000)) == expected, wanted
        for store in (ours, its):
            with pytest.raises(ValueError, match="Unsupported operator"):
                await store.asearch((), filter={"n": {"$like": 1}})
        # LangGraph's own store raises TypeError here; its database stores do not.
        assert await ours.asearch((), filter={"missing": {"$gt": 0}}) == []
        assert await ours.asearch((), filter={"o": {"$lt": 0}}) == []

    await in_a_run(work)


async def test_pages_have_each_item_once(in_a_run: InARun) -> None:
    async def work(context: Context) -> None:
        ours, its = PorticoStore(context), InMemoryStore()
        await filled(ours, its)
        for wanted in (None, {"b": True}):
            for limit in (1, 7, 60):
                seen: list[Any] = []
                while page := await ours.asearch((), filter=wanted, limit=limit, offset=len(seen)):
                    assert len(page) <= limit
                    seen += page
                assert told(seen) == told(await its.asearch((), filter=wanted, limit=1000))
        assert await ours.asearch((), limit=0) == await its.asearch((), limit=0) == []
        assert await ours.asearch((), offset=1000) == []

    await in_a_run(work)


async def test_namespaces_are_listed_the_same(in_a_run: InARun) -> None:
    async def work(context: Context) -> None:
        ours, its = PorticoStore(context), InMemoryStore()
        await filled(ours, its)
        for asked in CONDITIONS:
            assert await ours.alist_namespaces(**asked) == await its.alist_namespaces(**asked), asked
        both = (MatchCondition("prefix", ("users",)), MatchCondition("prefix", ("*", "ada")))
        op = ListNamespacesOp(match_conditions=both)
        assert await ours.abatch([op]) == await its.abatch([op])

    await in_a_run(work)


async def test_a_batch_reads_what_was_there_and_its_last_put_counts(in_a_run: InARun) -> None:
    ns = ("n",)
    ops = [
        PutOp(ns, "a", {"v": 1}), GetOp(ns, "a"), PutOp(ns, "a", {"v": 2}), GetOp(ns, "b"),
        SearchOp(ns), PutOp(ns, "b", None), PutOp(ns, "c", {"v": 3}), PutOp(ns, "c", None),
        ListNamespacesOp(),
    ]  # fmt: skip

    async def work(context: Context) -> None:
        answers = []
        for store in (PorticoStore(context), InMemoryStore()):
            await store.aput(ns, "b", {"v": 0})
            results = await store.abatch(ops)
            left = told(await store.asearch(ns))
            got = results[3]
            answers.append((results[:3], got and got.value, told(results[4]), results[5:], left))  # type: ignore[union-attr,arg-type]
            with pytest.raises(ValueError, match="operation"):
                await store.abatch([object()])  # type: ignore[list-item]
        assert answers[0] == answers[1]

    await in_a_run(work)


async def test_random_operations_leave_the_same(in_a_run: InARun) -> None:
    async def work(context: Context) -> None:
        ours, its = PorticoStore(context), InMemoryStore()
        chance = random.Random(7)
        for _ in range(150):
            ns, key = chance.choice(NAMESPACES), f"k{chance.randrange(4)}"
            match chance.randrange(4):
                case 0:
                    for store in (ours, its):
                        await store.adelete(ns, key)
                case 1:
                    one, other = [await store.aget(ns, key) for store in (ours, its)]
                    assert (one and one.value) == (other and other.value)
                case _:
                    value = chance.choice(VALUES)
                    for store in (ours, its):
                        await store.aput(ns, key, value)
        assert told(await ours.asearch((), limit=1000)) == told(await its.asearch((), limit=1000))
        for store in (ours, its):
            for bad in ((), ("",), ("a.b",), ("langgraph",)):
                with pytest.raises(InvalidNamespaceError):
                    await store.aput(bad, "k", {})
            assert await store.aget(("nowhere",), "k") is None
            await store.adelete(("nowhere",), "k")

    await in_a_run(work)


async def test_a_search_by_words_stays_in_its_namespace(in_a_run: InARun) -> None:
    async def work(context: Context) -> None:
        store = PorticoStore(context)
        await store.aput(("mine",), "tea", {"text": "green tea with a good deal of other words", "n": 1})
        for number in range(120):
            await store.aput((f"other{number}",), "tea", {"text": "green tea", "n": 2})
            await store.aput(("mine", "more"), f"{number}", {"text": "green tea", "n": 2})
        (found,) = await store.asearch(("mine",), query="green tea", filter={"n": 1})
        assert (found.namespace, found.key) == (("mine",), "tea")
        assert found.score is not None
        assert [one.namespace for one in await store.asearch(("other7",), query="tea")] == [("other7",)]
        assert await store.asearch(("nowhere",), query="tea") == []
        assert len(await store.asearch(("mine",), query="tea", limit=100)) == 100
        assert len(await store.asearch(("mine",), query="tea " * 10_000)) == 10
        assert len(await store.asearch(("other7",), query="  ")) == 1

    await in_a_run(work)


async def test_puts_of_one_key_at_once_leave_one_item(in_a_run: InARun) -> None:
    async def work(context: Context) -> None:
        store = PorticoStore(context)
        await asyncio.gather(*(PorticoStore(context).aput(("n",), "k", {"v": n}) for n in range(10)))
        (found,) = await store.asearch(("n",))
        first = await store.aget(("n",), "k")
        assert first is not None
        assert first.value == found.value
        await store.aput(("n",), "k", {"v": 10})
        again = await store.aget(("n",), "k")
        assert again is not None
        assert (again.value, again.created_at) == ({"v": 10}, first.created_at)
        assert again.updated_at > first.updated_at
        await store.adelete(("n",), "k")
        assert await store.asearch(("n",)) == []
        assert await context.memory.list() == []

    await in_a_run(work)


async def test_all_of_many_items_are_listed(in_a_run: InARun, request: pytest.FixtureRequest) -> None:
    # A SQLite commit takes time, so some of its pages are tested there.
    many = 2100 if "memory" in request.node.name else 450

    async def work(context: Context) -> None:
        store = PorticoStore(context)
        for number in range(many):
            await store.aput(("many", str(number % 3)), str(number), {"n": number})
        found = await store.asearch(("many", "1"), limit=10_000)
        assert sorted(int(one.key) for one in found) == list(range(1, many, 3))
        (oldest,) = await store.asearch(("many",), limit=1, offset=many - 1)
        assert oldest.key == "0"
        assert (await store.asearch(("many",), filter={"n": 3}))[0].key == "3"
        assert await store.alist_namespaces() == [("many", "0"), ("many", "1"), ("many", "2")]

    await in_a_run(work)


async def test_what_is_indexed_is_what_words_find(in_a_run: InARun) -> None:
    async def work(context: Context) -> None:
        store = PorticoStore(context)
        value = {"title": "zebra", "body": {"text": "giraffe"}, "tags": [{"name": "lion"}]}
        await store.aput(("n",), "all", value)
        await store.aput(("n",), "none", value, index=False)
        await store.aput(("n",), "some", value, index=["title", "tags[*].name"])
        for word, keys in (("zebra", ["all", "some"]), ("giraffe", ["all"]), ("lion", ["all", "some"])):
            assert sorted(one.key for one in await store.asearch(("n",), query=word)) == keys
        assert len(await store.asearch(("n",))) == 3
        await store.aput(("n",), "long", {"text": "word " * 30_000 + "\n"})
        item = await store.aget(("n",), "long")
        assert item is not None
        assert len(item.value["text"]) == 150_001

    await in_a_run(work)


async def test_items_live_for_their_time_and_on_when_they_are_read(in_a_run: InARun) -> None:
    async def work(context: Context) -> None:
        store = PorticoStore(context, ttl={"default_ttl": 60, "refresh_on_read": True})
        still = PorticoStore(context, ttl={"refresh_on_read": False})
        await store.aput(("n",), "default", {})
        await store.aput(("n",), "own", {}, ttl=1)
        await store.aput(("n",), "ever", {}, ttl=None)

        async def ends() -> dict[str, float | None]:
            return {one.metadata["key"]: one.expires_at for one in await context.memory.list()}

        async def changed(read: Awaitable[Any]) -> list[str]:
            before = await ends()
            await asyncio.sleep(0.01)
            await read
            return sorted(key for key, end in (await ends()).items() if end != before[key])

        first = await ends()
        assert first["ever"] is None
        assert first["default"] is not None
        assert first["own"] is not None
        assert 3500 < first["default"] - first["own"] < 3600
        assert await changed(store.aget(("n",), "own")) == ["own"]
        assert await changed(still.aget(("n",), "own")) == []
        assert await changed(store.aget(("n",), "own", refresh_ttl=False)) == []
        assert await changed(store.asearch(("n",))) == ["default", "own"]
        assert await changed(still.asearch(("n",))) == []
        await store.aput(("n",), "own", {}, ttl=0.02 / 60)
        await asyncio.sleep(0.1)
        assert await store.aget(("n",), "own") is None
        assert [one.key for one in await store.asearch(("n",))] == ["ever", "default"]
        await store.aput(("n",), "default", {}, ttl=None)
        assert (await ends())["default"] is None

    await in_a_run(work)


async def test_a_memory_that_looks_like_an_item_is_none(in_a_run: InARun) -> None:
    async def work(context: Context) -> None:
        store = PorticoStore(context)
        await store.aput(("n",), "k", {"text": "tea"})
        (item,) = await context.memory.list()
        for metadata in (
            {"place": "Rome"},
            {"kept_by": "langgraph"},
            {"langgraph_namespace": '"n",'},
            {"langgraph_namespace": '"n",', "namespace": [1], "key": 2, "value": 3, "updated": 4},
            item.metadata,  # without its key
        ):
            await context.memory.add("tea", metadata=metadata)
        for again in (store, PorticoStore(context)):
            assert [one.key for one in await again.asearch(())] == ["k"]
            assert [one.key for one in await again.asearch(("n",), query="tea")] == ["k"]
            assert await again.alist_namespaces() == [("n",)]
            assert await again.aget(("n",), "other") is None
            await again.aput(("n",), "k", {"text": "green tea"})
        assert len(await context.memory.list()) == 6

    await in_a_run(work)


async def old_put(context: Context, namespace: tuple[str, ...], value: dict[str, Any], day: int) -> None:
    """Stores an item as earlier versions did, here with the key k."""
    moment = f"2024-05-{day:02}T00:00:00+00:00"
    place = json.dumps([*namespace, "k"], ensure_ascii=False)
    about = {"kept_by": "langgraph", "place": place, "namespace": list(namespace), "key": "k", "value": value}
    metadata = {**about, "created": moment, "updated": moment}
    await context.memory.add(value["text"], metadata=metadata)


async def test_items_of_earlier_versions_stay_readable(in_a_run: InARun) -> None:
    async def work(context: Context) -> None:
        await context.memory.add("no item")
        await old_put(context, ("old", "a"), {"text": "stale tea"}, 1)
        await old_put(context, ("old", "a"), {"text": "green tea"}, 2)
        await old_put(context, ("old", "b"), {"text": "black tea"}, 3)
        await old_put(context, ("long" * 500,), {"text": "long"}, 4)
        store = PorticoStore(context)
        await store.aput(("new",), "k", {"text": "new tea"})
        item = await store.aget(("old", "a"), "k")
        assert item is not None
        assert item.value == {"text": "green tea"}
        assert item.created_at.day == 2
        assert len(await store.asearch(())) == 4
        assert [one.value["text"] for one in await store.asearch(("old", "a"))] == ["green tea"]
        assert [one.value["text"] for one in await store.asearch(("old", "a"), query="green")] == [
            "green tea"
        ]
        assert await store.alist_namespaces(prefix=("old",)) == [("old", "a"), ("old", "b")]
        await store.aput(("old", "a"), "k", {"text": "white tea"})
        (again,) = await store.asearch(("old", "a"))
        assert (again.value, again.created_at.day) == ({"text": "white tea"}, 1)
        for place in (("old", "a"), ("old", "b"), ("long" * 500,), ("new",)):
            await PorticoStore(context).adelete(place, "k")
        assert await PorticoStore(context).asearch(()) == []
        assert [one.text for one in await context.memory.list()] == ["no item"]

    await in_a_run(work)
