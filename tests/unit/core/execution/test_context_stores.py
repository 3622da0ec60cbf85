"""Memories by key and by filter in the context, in the core's process and in a worker."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from support.engine import request, text_of

from portico.agent import AgentApp, Context
from portico.core.errors import InvalidArgument
from portico.core.execution.execution import Execution

Engines = Callable[..., Any]


async def said(engine: Any) -> str:
    launched = engine.admit_now(request("go", background=True))
    assert isinstance(launched, Execution)
    return await text_of(engine, launched)


async def test_a_memory_is_replaced_read_changed_and_deleted_by_its_key(engine_of: Engines) -> None:
    app = AgentApp("test")

    @app.query
    async def query(context: Context) -> Any:
        memory = context.memory
        first = await memory.add("likes tea", key="drink", created_at=5, metadata={"n": 1})
        assert await memory.add("likes coffee", key="drink", expires_at=time.time() + 1000) == first
        kept = await memory.get(key="drink")
        assert kept is not None
        assert (kept.text, kept.key, kept.metadata, kept.created_at) == ("likes coffee", "drink", {}, 5.0)
        assert kept.expires_at is not None
        changed = await memory.update(first, text="likes water", metadata={"n": 2})
        assert changed is not None
        assert changed == await memory.get(first)
        assert (changed.text, changed.metadata, changed.expires_at) == (
            "likes water",
            {"n": 2},
            kept.expires_at,
        )
        assert await memory.update("mem_0", text="x") is None
        assert await context.agent_memory.get(key="drink") is None
        assert await memory.delete(key="drink")
        assert await memory.get(key="drink") is None
        assert not await memory.delete(key="drink")
        yield "done"

    assert await said(await engine_of(app)) == "done"


async def test_memories_and_messages_are_chosen(engine_of: Engines) -> None:
    app = AgentApp("test")

    @app.query
    async def query(context: Context) -> Any:
        memory = context.memory
        for n in range(4):
            await memory.add(f"tea {n}", metadata={"n": n, "of": {"kind": "ab"}})
        chosen = {
            "all": [{"path": "n", "operator": "in", "value": [1, 3, None]}],
            "any": [[{"path": ["of", "kind"], "operator": "prefix", "value": "a"}]],
        }
        assert [one.text for one in await memory.list(filter=chosen)] == ["tea 3", "tea 1"]
        assert {one.text for one in await memory.search("tea", filter=chosen)} == {"tea 3", "tea 1"}
        refused: list[dict[str, Any]] = [
            {"al": []},
            {"all": [{"path": "n"}]},
            {"all": [1]},
            {"all": {"n": 1}},
        ]
        for wrong in refused:
            with pytest.raises(InvalidArgument):
                await memory.list(filter=wrong)
        times: dict[str, Any]
        for times in ({"created_at": time.time() + 1e6}, {"expires_at": 5}, {"created_at": "now"}):
            with pytest.raises(InvalidArgument):
                await memory.add("x", **times)
        await context.session.append({"role": "assistant", "content": "go on"})
        assert [m.text for m in await context.session.search("go", roles=["assistant"])] == ["go on"]
        assert await context.session.search("go", types=["reasoning"]) == []
        with pytest.raises(InvalidArgument):
            await context.session.search("go", roles=["nobody"])
        yield "done"

    assert await said(await engine_of(app)) == "done"
