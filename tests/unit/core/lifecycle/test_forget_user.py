"""Erasure of a user: all data of one owner is deleted and counted, and no data of others."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.engine import request

from portico.agent import AgentApp, Context, Message
from portico.core.convert.events import ProtoEncoder
from portico.core.execution.execution import Execution
from portico.core.hosts.local.local_host import LocalHost
from portico.core.lifecycle import forget_user as module
from portico.core.lifecycle.forget_user import ErasedCounts, UserEraser
from portico.core.runs.run_engine import RunEngine
from portico.core.sandboxes.core_sandboxes import CoreSandboxes
from portico.core.stores.ports.push_configs import PushRecord
from portico.core.stores.ports.stores import (
    Commit,
    MemoryRecord,
    NewMessage,
    NewSession,
    RunFilter,
    RunRecord,
    Stores,
)


@pytest.fixture
async def engine(stores: Stores) -> AsyncIterator[RunEngine]:
    app = AgentApp("test")

    @app.query
    async def query(msgs: list[Message], context: Context) -> Any:
        yield "x"
        await asyncio.sleep(600)

    engine = RunEngine(LocalHost([app]), stores, ProtoEncoder())
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
def forgetting(engine: RunEngine, stores: Stores) -> UserEraser:
    return UserEraser(engine, stores, CoreSandboxes())


async def fill(stores: Stores, owner: str, count: int) -> None:
    """Stores so many runs with a push config, sessions with two messages, states and memories."""
    names = [f"{owner}-{number}" for number in range(count)]
    await stores.runs.commit(
        Commit(
            [
                RunRecord(name, "a", owner, name, "completed", 1.0, 1.0, 0, 1, True, None, b"", b"")
                for name in names
            ],
            messages=[
                NewMessage(owner, name, f"{name}-{message}", "user", "hi", b"", 1.0)
                for name in names
                for message in range(2)
            ],
            sessions=[NewSession(owner, name, 1.0) for name in names],
        )
    )
    for name in names:
        await stores.pushes.set(PushRecord(name, "c", "http://x", "", "", "", -1, False, 1.0, "v", ""))
        await stores.states.save(owner, name, None, "{}", None)
    await stores.memories.add([MemoryRecord(f"mem-{name}", owner, name, "penguin", 1.0) for name in names])


async def kept(stores: Stores, owner: str) -> list[int]:
    return [
        await stores.runs.count(RunFilter(user_id=owner)),
        len(await stores.sessions.list(owner, None, 99)),
        len(await stores.states.list(owner, None, None, 99)),
        len(await stores.memories.list(owner, None, None, 99)),
    ]


async def test_all_that_an_owner_has_goes_and_is_counted(
    forgetting: UserEraser, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)  # so that the deletion takes several steps
    await fill(stores, "ada", 5)
    await fill(stores, "bob", 2)
    assert await forgetting.delete_everything("ada") == ErasedCounts(
        runs=5, sessions=5, messages=10, states=5, memories=5, push_configs=5
    )
    assert await kept(stores, "ada") == [0, 0, 0, 0]
    assert await kept(stores, "bob") == [2, 2, 2, 2]
    assert [record.run_id for record in await stores.pushes.undelivered()] == ["bob-0", "bob-1"]
    assert await forgetting.delete_everything("ada") == ErasedCounts()


async def test_what_still_writes_is_stopped_first(
    forgetting: UserEraser, engine: RunEngine, stores: Stores
) -> None:
    launched = {}
    for user_id in ("ada", "bob"):
        execution = engine.admit_now(request("hi", background=True, request={"user_id": user_id}))
        assert isinstance(execution, Execution)
        launched[user_id] = execution.run
        await execution.run.wait_published(2)
    assert (await forgetting.delete_everything("ada")).runs == 1
    assert launched["ada"].is_terminal_durable
    assert not launched["bob"].is_terminal_durable
    assert await kept(stores, "ada") == [0, 0, 0, 0]
    assert (await kept(stores, "bob"))[0] == 1


async def test_a_run_that_began_meanwhile_neither_goes_nor_keeps_the_others(
    forgetting: UserEraser, engine: RunEngine, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    cancel_all = engine.cancel_all

    async def then_another(owner: str) -> None:
        await cancel_all(owner)
        execution = engine.admit_now(request("hi", background=True, request={"user_id": "ada"}))
        assert isinstance(execution, Execution)
        await execution.run.wait_published(2)

    monkeypatch.setattr(engine, "cancel_all", then_another)
    await fill(stores, "ada", 3)
    assert (await forgetting.delete_everything("ada")).runs == 3
    [live] = await stores.runs.list(RunFilter(user_id="ada"), None, 9)
    assert engine.live(live.run_id) is not None


async def test_a_session_that_somebody_else_deletes_meanwhile_is_not_counted(
    forgetting: UserEraser, engine: RunEngine, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(stores, "ada", 3)
    session = engine.removal.delete_session

    async def slow(user_id: str, session_id: str) -> None:
        if session_id == "ada-1":
            await stores.sessions.delete(user_id, session_id)
        await session(user_id, session_id)

    monkeypatch.setattr(engine.removal, "delete_session", slow)
    told = await forgetting.delete_everything("ada")
    assert (told.sessions, told.messages) == (2, 4)
    assert await kept(stores, "ada") == [0, 0, 0, 0]
