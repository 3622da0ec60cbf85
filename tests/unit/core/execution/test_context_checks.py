"""The context's methods have the limits of the contract, in the core's process and in a worker."""

from collections.abc import Callable
from typing import Any

import pytest
from support.engine import request, text_of

from portico.agent import AgentApp, Context, Message, Role, TextContent
from portico.core.errors import InvalidArgument
from portico.core.execution.execution import Execution
from portico.core.stores.ports.stores import Stores
from portico.frameworks.common.history import earlier_messages

Engines = Callable[..., Any]
NAN = float("nan")

FILTER = {"all": [{"path": "a", "operator": "eq", "value": NAN}]}
REFUSED: list[tuple[str, str, tuple[Any, ...], dict[str, Any], str]] = [
    ("session", "append", (), {}, "messages"),
    ("session", "append", ("hi",) * 1001, {}, "messages"),
    ("session", "append", (Message(Role.USER, (TextContent("hi"),), id="x" * 257),), {}, "messages[0].id"),
    (
        "session",
        "append",
        ("a", Message(Role.USER, (TextContent("b"),), metadata={"n": "x" * 2**20})),
        {},
        "messages[1]",
    ),
    ("session", "search", ("",), {}, "query"),
    ("session", "search", ("word " * 100_000,), {}, "query"),
    ("session", "search", ("\ud800",), {}, "query"),
    ("session", "search", ("word",), {"top_k": -1}, "top_k"),
    ("session", "messages", (), {"limit": 0}, "limit"),
    ("session", "messages", (), {"limit": 10**9}, "limit"),
    ("memory", "add", ("",), {}, "text"),
    ("memory", "add", (" \n",), {}, "text"),
    ("memory", "add", (None,), {}, "text"),
    ("memory", "add", (["a"],), {}, "text"),
    ("memory", "add", ("\ud800",), {}, "text"),
    ("memory", "add", ("x" * 3_000_000,), {}, "text"),
    ("memory", "add", ("x",), {"metadata": {"n": NAN}}, "metadata"),
    ("memory", "add", ("x",), {"metadata": {"n": float("inf")}}, "metadata"),
    ("memory", "add", ("x",), {"metadata": {"n": "x" * 2**20}}, "metadata"),
    ("memory", "add", ("x",), {"metadata": {"n": {1, 2}}}, "metadata"),
    ("memory", "add", ("x",), {"metadata": {"n": "\ud800"}}, "metadata"),
    ("memory", "add", ("x",), {"metadata": ["n"]}, "metadata"),
    ("memory", "add", ("x",), {"key": "x" * 1025}, "key"),
    ("memory", "add", ("x",), {"key": "\ud800"}, "key"),
    ("memory", "add", ("x",), {"expires_at": NAN}, "expire"),
    ("memory", "search", ("",), {}, "query"),
    ("memory", "search", ("word " * 100_000,), {}, "query"),
    ("memory", "search", (None,), {}, "query"),
    ("memory", "search", ("x",), {"top_k": -1}, "top_k"),
    ("memory", "search", ("x",), {"filter": FILTER}, "filter"),
    ("memory", "search", ("x",), {"metadata": {"a": "\ud800"}}, "metadata"),
    ("memory", "list", (), {"limit": -1}, "limit"),
    ("memory", "list", (), {"limit": 10_001}, "limit"),
    ("memory", "list", (), {"filter": FILTER}, "filter"),
    ("memory", "delete", ("",), {}, "memory_id"),
    ("memory", "delete", (), {}, "memory_id"),
    ("memory", "delete", ("\ud800",), {}, "memory_id"),
    ("memory", "get", ("",), {}, "memory_id"),
    ("agent_memory", "add", ("",), {}, "text"),
    ("agent_memory", "search", ("",), {}, "query"),
    ("state", "save", ({"n": NAN},), {}, "state"),
    ("state", "save", ({"n": [None, {"m": -float("inf")}]},), {}, "state"),
    ("state", "save", ({"n": "x" * (4 * 2**20)},), {}, "state"),
    ("state", "save", ({"n": "\ud800"},), {}, "state"),
    ("state", "save", ([1],), {}, "state"),
    ("state", "save", ({},), {"round_id": 0}, "round_id"),
    ("state", "save", ({},), {"round_id": 2**60}, "round_id"),
    ("state", "load", (), {"round_id": -1}, "round_id"),
    ("state", "delete", (), {"round_id": 0}, "round_id"),
]


async def said(engine: Any) -> str:
    launched = engine.admit_now(request("go", background=True))
    assert isinstance(launched, Execution)
    return await text_of(engine, launched)


async def test_what_the_contract_refuses_its_context_refuses(engine_of: Engines) -> None:
    app = AgentApp("test")

    @app.query
    async def query(context: Context) -> Any:
        for index, (part, method, args, named, field) in enumerate(REFUSED):
            try:
                await getattr(getattr(context, part), method)(*args, **named)
            except InvalidArgument as error:
                if error.reason != "INVALID_ARGUMENT" or not error.metadata["field"].startswith(field):
                    yield f"{index}: {error} "
            else:
                yield f"{index} was done "
        yield "end"

    assert await said(await engine_of(app)) == "end"


async def test_a_text_and_a_dict_are_messages_of_the_user(engine_of: Engines) -> None:
    app = AgentApp("test")

    @app.query
    async def query(context: Context) -> Any:
        await context.session.append("one", {"content": "two"}, {"role": "assistant", "content": ["three"]})
        for wrong, kind in ((None, TypeError), (["x"], TypeError), ({"content": 5}, TypeError)):
            with pytest.raises(kind):
                await context.session.append(wrong)  # type: ignore[arg-type]
        for message in (await context.session.messages())[1:]:
            yield f"{message.role.value}:{message.text} "

    assert await said(await engine_of(app)) == "user:one user:two assistant:three "


async def test_what_is_saved_is_what_was_given(engine_of: Engines, stores: Stores) -> None:
    app = AgentApp("test")
    state = {"n": None, "list": [1.5, True, {"deep": None}], "word": "null"}

    @app.query
    async def query(context: Context) -> Any:
        await context.state.save(state)
        await context.state.part("other").save(state)
        loaded = await context.state.load()
        yield str(loaded is not None and loaded.state == state)

    assert await said(await engine_of(app)) == "True"


async def test_frameworks_look_back_within_the_limits(engine_of: Engines) -> None:
    app = AgentApp("test")

    @app.query
    async def query(context: Context) -> Any:
        for _ in range(5):
            await context.session.append(*["later"] * 900)
        yield str([message.text for message in await earlier_messages(context)])

    assert await said(await engine_of(app)) == "[]"


async def test_a_search_tells_a_hundred_hits_at_most(engine_of: Engines) -> None:
    app = AgentApp("test")

    @app.query
    async def query(context: Context) -> Any:
        for number in range(101):
            await context.memory.add(f"tea {number}")
        yield f"{len(await context.memory.search('tea', top_k=10**9))} "
        yield f"{len(await context.memory.search('tea', top_k=0))} "
        seen, page = [], await context.memory.list(limit=40)
        while page:
            seen += [found.text for found in page]
            page = await context.memory.list(limit=40, before=page[-1])
        yield str(seen == [f"tea {number}" for number in reversed(range(101))])

    assert await said(await engine_of(app)) == "100 10 True"
