"""Memories and searches over gRPC: accepted values, refused values, results."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from support.serving import running_core

from portico.agent import AgentApp
from portico.client import Client, InvalidArgument, NotFound, ResourceExhausted
from portico.v1 import events_pb2, memory_pb2


def agent() -> AgentApp:
    app = AgentApp("quiet")
    app.query(lambda: "")
    return app


@pytest.fixture(params=["memory://", "sqlite"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    store = str(request.param) if request.param == "memory://" else f"sqlite:///{tmp_path}/core.db"
    async with (
        running_core([agent()], tmp_path, store=store, user_stored_bytes=200_000),
        Client(f"unix:{tmp_path}/core.sock") as opened,
    ):
        yield opened


async def test_a_memory_is_added_read_changed_and_replaced(client: Client) -> None:
    long_ago = datetime(1815, 12, 10, tzinfo=UTC)
    later = datetime.now(UTC) + timedelta(days=1)
    (added,) = await client.memories.add(
        "likes tea", user_id="ada", key="drink", created_time=long_ago, expire_time=later, metadata={"n": 1}
    )
    assert added.created_time.ToDatetime(UTC) == long_ago
    assert added.expire_time.ToDatetime(UTC) == later
    assert await client.memories.get(added.memory_id, user_id="ada") == added
    assert await client.memories.get(key="drink", user_id="ada") == added

    changed = await client.memories.update(added.memory_id, user_id="ada", text="likes coffee")
    assert changed.updated_time.ToDatetime() > added.updated_time.ToDatetime()
    added.text = "likes coffee"
    added.updated_time.CopyFrom(changed.updated_time)
    assert changed == added
    changed = await client.memories.update(added.memory_id, user_id="ada", metadata=None, expire_time=None)
    assert changed.metadata_json == ""
    assert not changed.HasField("expire_time")

    (replaced,) = await client.memories.add("likes water", user_id="ada", key="drink")
    assert (replaced.memory_id, replaced.text) == (added.memory_id, "likes water")
    assert replaced.created_time.ToDatetime(UTC) == long_ago
    assert len([memory async for memory in client.memories.list(user_id="ada")]) == 1


async def test_what_has_expired_is_not_there(client: Client) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    (added,) = await client.memories.add("likes tea", user_id="ada", key="drink", expire_time=soon)
    async with asyncio.timeout(30):
        while [memory async for memory in client.memories.list(user_id="ada")]:
            await asyncio.sleep(0.05)
    with pytest.raises(NotFound) as caught:
        await client.memories.get(key="drink", user_id="ada")
    assert caught.value.reason == "MEMORY_NOT_FOUND"
    with pytest.raises(NotFound):
        await client.memories.update(added.memory_id, user_id="ada", text="likes coffee")
    assert await client.memories.search("tea", user_id="ada") == ()
    assert [memory async for memory in client.memories.list(user_id="ada")] == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"created_time": datetime.now(UTC) + timedelta(hours=1)}, "memories[0].created_time"),
        ({"created_time": Timestamp(seconds=-62_135_596_801)}, "memories[0].created_time"),
        ({"created_time": Timestamp(seconds=253_402_300_800)}, "memories[0].created_time"),
        ({"created_time": Timestamp(seconds=2**62)}, "memories[0].created_time"),
        ({"created_time": Timestamp(nanos=-1)}, "created_time"),
        ({"expire_time": datetime(2020, 1, 1, tzinfo=UTC)}, "memories[0].expire_time"),
        ({"expire_time": Timestamp(seconds=2**62)}, "memories[0].expire_time"),
        ({"key": "k" * 1025}, "memories[0].key"),
        ({"key": "a\0b"}, "memories[0].key"),
        ({"metadata_json": '{"a":1,' + ",".join(f'"{n}":1' for n in range(1000)) + "}"}, None),
        ({"metadata_json": '{"a":' * 300 + "1" + "}" * 300}, "memories[0].metadata_json"),
    ],
)
async def test_what_no_memory_can_be_is_refused(
    client: Client, fields: dict[str, Any], field: str | None
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await client.memories.add([memory_pb2.Memory(text="x", **fields)], user_id="ada")
    assert field in (None, caught.value.metadata["field"])
    assert [memory async for memory in client.memories.list(user_id="ada")] == []


async def test_a_key_may_be_there_once_in_a_call(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="same key"):
        await client.memories.add(["a", "b"], user_id="ada", key="k")


@pytest.mark.parametrize(
    ("paths", "memory"),
    [
        ([], memory_pb2.Memory(text="x")),
        (["text"], memory_pb2.Memory()),
        (["text"], memory_pb2.Memory(text="x" * 65537)),
        (["key"], memory_pb2.Memory(key="x")),
        (["memory_id"], memory_pb2.Memory(memory_id="x")),
        (["user_id"], memory_pb2.Memory(user_id="bob")),
        (["created_time"], memory_pb2.Memory()),
        (["text", "*"], memory_pb2.Memory(text="x")),
        (["metadata_json"], memory_pb2.Memory(metadata_json="[]")),
        (["expire_time"], memory_pb2.Memory(expire_time=Timestamp(seconds=1))),
        (["session_id"], memory_pb2.Memory(session_id="x" * 257)),
    ],
)
async def test_a_change_that_can_not_be_made_is_refused(
    client: Client, paths: list[str], memory: memory_pb2.Memory
) -> None:
    (added,) = await client.memories.add("likes tea", user_id="ada")
    request = memory_pb2.UpdateMemoryRequest(
        user_id="ada", memory_id=added.memory_id, memory=memory, update_mask=FieldMask(paths=paths)
    )
    connection = client.memories._calls.connection
    with pytest.raises(InvalidArgument):
        await client.memories._calls.unary(connection.memories.UpdateMemory, request)
    assert await client.memories.get(added.memory_id, user_id="ada") == added


def condition(**fields: Any) -> memory_pb2.MetadataFilter:
    whole: dict[str, Any] = {
        "path": ["n"],
        "operator": memory_pb2.METADATA_OPERATOR_EQ,
        "value": Value(number_value=1),
    }
    return memory_pb2.MetadataFilter(all=[memory_pb2.MetadataCondition(**(whole | fields))])


@pytest.mark.parametrize(
    "asked",
    [
        condition(path=[]),
        condition(path=["n"] * 9),
        condition(path=["n" * 257]),
        condition(operator=0),
        condition(operator=99),
        condition(value=None),
        condition(value=Value()),
        condition(value=Value(struct_value=Struct())),
        condition(value=Value(number_value=float("nan"))),
        condition(value=Value(number_value=float("inf"))),
        condition(value=Value(string_value="x" * 1025)),
        condition(operator=memory_pb2.METADATA_OPERATOR_IN),
        condition(operator=memory_pb2.METADATA_OPERATOR_EXISTS),
        condition(operator=memory_pb2.METADATA_OPERATOR_PREFIX),
        condition(operator=memory_pb2.METADATA_OPERATOR_LT, value=Value(bool_value=True)),
        memory_pb2.MetadataFilter(any=[memory_pb2.MetadataAlternatives()]),
        memory_pb2.MetadataFilter(all=list(condition().all) * 33),
    ],
)
async def test_what_is_no_filter_is_refused(client: Client, asked: memory_pb2.MetadataFilter) -> None:
    await client.memories.add("likes tea", user_id="ada", metadata={"n": 1})
    with pytest.raises(InvalidArgument):
        await client.memories.search("tea", user_id="ada", filter=asked)
    with pytest.raises(InvalidArgument):
        await client.memories.list(user_id="ada", filter=asked).page()
    with pytest.raises(InvalidArgument):
        await client.memories.delete(user_id="ada", filter=asked)
    assert await client.memories.delete(user_id="ada") == 1


async def test_a_filter_is_paged_with(client: Client) -> None:
    for n in range(6):
        await client.memories.add(f"tea {n}", user_id="ada", metadata={"odd": n % 2 == 1})
    asked = {"all": [{"path": "odd", "operator": "eq", "value": True}]}
    listed = [memory.text async for memory in client.memories.list(user_id="ada", filter=asked, page_size=2)]
    assert listed == ["tea 5", "tea 3", "tea 1"]


async def written(call: Callable[..., Awaitable[Any]], *args: Any, **named: Any) -> None:
    """A size measurement that found the quota used up is not repeated at once."""
    async with asyncio.timeout(30):
        while True:
            try:
                await call(*args, **named)
            except ResourceExhausted:
                await asyncio.sleep(0.05)
            else:
                return


async def test_changes_count_as_what_is_stored(client: Client) -> None:
    (added,) = await client.memories.add("x", user_id="ada")
    for number in range(8):  # they replace one another, so only one is stored
        await written(client.memories.update, added.memory_id, user_id="ada", text=str(number) * 60_000)
        await written(client.memories.add, "x" * 60_000, user_id="ada", key="k")
    with pytest.raises(ResourceExhausted):
        await client.memories.update(added.memory_id, user_id="ada", metadata={"m": "x" * 150_000})


async def test_a_search_in_sessions_is_for_roles_and_types_and_shows_the_words(client: Client) -> None:
    await client.sessions.create(user_id="ada", session_id="s")
    await client.sessions.append_messages(
        "s",
        [
            {"role": "user", "content": "Where are the penguins?"},
            {"role": "assistant", "content": "A penguin on <b>ice</b>."},
            {"role": "assistant", "type": "reasoning", "content": "Penguins swim."},
        ],
        user_id="ada",
    )

    async def found(**wanted: Any) -> list[tuple[str, str]]:
        hits = await client.sessions.search("penguin ice", user_id="ada", **wanted)
        return sorted((hit.message.message.content[0].text, hit.message.message.id) for hit in hits)

    assert [text for text, _ in await found(roles=["user"])] == ["Where are the penguins?"]
    assert [text for text, _ in await found(types=["reasoning"])] == ["Penguins swim."]
    assert len(await found(roles=["user", "assistant"])) == 3
    assert await found(roles=["user"], types=["reasoning"]) == []

    hits = await client.sessions.search("penguin ice", user_id="ada", highlight=True, types=["message"])
    shown = {
        (highlight.text, tuple(highlight.text[part.start : part.end] for part in highlight.ranges))
        for hit in hits
        for highlight in hit.highlights
    }
    assert shown == {
        ("Where are the penguins?", ("penguins",)),
        ("A penguin on <b>ice</b>.", ("penguin", "ice")),
    }
    assert all(not hit.highlights for hit in await client.sessions.search("penguin", user_id="ada"))
    for wanted in ({"roles": [0]}, {"roles": [99]}, {"types": [0]}, {"types": [99]}):
        with pytest.raises(InvalidArgument):
            await found(**wanted)
    many = [events_pb2.ROLE_USER] * 40_000
    assert [text for text, _ in await found(roles=many)] == ["Where are the penguins?"]
