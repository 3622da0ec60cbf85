"""Memories that one call adds are listed in the call's order, page by page."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.serving import running_core

from portico.agent import AgentApp
from portico.client import Client, InvalidArgument
from portico.v1 import memory_pb2

WORDS = [f"tea {number}" for number in range(100)]


def agent() -> AgentApp:
    app = AgentApp("quiet")
    app.query(lambda: "")
    return app


@pytest.fixture(params=["memory://", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param) if request.param == "memory://" else f"sqlite:///{tmp_path}/core.db"


async def test_a_batch_is_listed_in_the_order_of_its_creation(store: str, tmp_path: Path) -> None:
    at = datetime(2024, 5, 1, tzinfo=UTC)
    async with (
        running_core([agent()], tmp_path, store=store),
        Client(f"unix:{tmp_path}/core.sock") as client,
    ):
        for user, moment in (("now", None), ("then", at)):
            added = await client.memories.add(WORDS, user_id=user, created_time=moment)
            assert [memory.text for memory in added] == WORDS
            listed = [memory async for memory in client.memories.list(user_id=user, page_size=7)]
            assert [memory.text for memory in listed] == WORDS[::-1]
            assert [memory.memory_id for memory in listed] == [memory.memory_id for memory in added[::-1]]


async def test_a_delete_by_a_filter_that_says_nothing_removes_nothing(store: str, tmp_path: Path) -> None:
    async with (
        running_core([agent()], tmp_path, store=store),
        Client(f"unix:{tmp_path}/core.sock") as client,
    ):
        await client.memories.add(WORDS, user_id="ada")
        with pytest.raises(InvalidArgument, match="filter"):
            await client.memories.delete(user_id="ada", filter=memory_pb2.MetadataFilter())
        with pytest.raises(InvalidArgument, match="key"):
            await client.memories.delete(user_id="ada", key="")
        assert await client.memories.delete(user_id="ada") == len(WORDS)


async def test_memories_are_texts_dicts_and_messages(tmp_path: Path) -> None:
    async with running_core([agent()], tmp_path), Client(f"unix:{tmp_path}/core.sock") as client:
        given: list[Any] = [
            "one",
            {"text": "two", "metadata": {"n": 1}, "key": "k"},
            memory_pb2.Memory(text="three"),
        ]
        added = await client.memories.add(given, user_id="ada", session_id="s")
        assert [memory.text for memory in added] == ["one", "two", "three"]
        assert [memory.session_id for memory in added] == ["s", "", ""]
        assert added[1].metadata_json == '{"n":1}'
        (one,) = await client.memories.add({"text": "four"}, user_id="ada")
        assert one.text == "four"
        wrong: Any
        for wrong in (None, 5, [None], [["one"]], {"txt": "five"}, {"text": "five", "colour": "red"}, {}):
            with pytest.raises(TypeError):
                await client.memories.add(wrong, user_id="ada")
        assert len([memory async for memory in client.memories.list(user_id="ada")]) == 4
