"""State, session and memory services behave the same in memory and in Redis."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from portico.compat.agentscope_runtime.engine.schemas.agent_schemas import Message, TextContent
from portico.compat.agentscope_runtime.engine.services.agent_state import (
    RedisStateService,
    StateService,
    StateServiceFactory,
)
from portico.compat.agentscope_runtime.engine.services.memory import (
    Mem0MemoryService,
    MemoryService,
    MemoryServiceFactory,
    RedisMemoryService,
)
from portico.compat.agentscope_runtime.engine.services.redis_backed import RedisMissing, key_part
from portico.compat.agentscope_runtime.engine.services.session_history import (
    InMemorySessionHistoryService,
    RedisSessionHistoryService,
    SessionHistoryService,
    SessionHistoryServiceFactory,
    TablestoreSessionHistoryService,
)
from portico.compat.agentscope_runtime.errors import NotThereYet


@pytest.fixture
def user() -> str:
    return f"user-{uuid4()}"


@pytest.fixture
async def states(backend: dict[str, str]) -> AsyncIterator[StateService]:
    async with await StateServiceFactory.create(**backend) as service:
        yield service


@pytest.fixture
async def sessions(backend: dict[str, str]) -> AsyncIterator[SessionHistoryService]:
    async with await SessionHistoryServiceFactory.create(**backend) as service:
        yield service


@pytest.fixture
async def memories(backend: dict[str, str]) -> AsyncIterator[MemoryService]:
    async with await MemoryServiceFactory.create(**backend) as service:
        yield service


def said(text: str, role: Any = "user") -> Message:
    return Message(role=role, content=[TextContent(text=text)])


def texts(messages: list[Any]) -> list[str]:
    return [message.get_text_content() for message in messages]


async def test_rounds_follow_one_another_and_the_last_is_exported(states: StateService, user: str) -> None:
    assert await states.export_state(user) is None
    assert [await states.save_state(user, {"n": n}) for n in (1, 2)] == [1, 2]
    assert await states.save_state(user, {"n": 7}, round_id=7) == 7
    assert await states.save_state(user, {"n": 8}) == 8
    assert await states.export_state(user) == {"n": 8}
    assert await states.export_state(user, round_id=2) == {"n": 2}
    assert await states.export_state(user, round_id=3) is None
    assert await states.export_state(user, session_id="another") is None


async def test_two_that_save_at_once_get_two_rounds(states: StateService, user: str) -> None:
    rounds = await asyncio.gather(*(states.save_state(user, {"n": n}) for n in range(10)))
    assert sorted(rounds) == list(range(1, 11))


async def test_what_is_exported_is_a_copy(states: StateService, user: str) -> None:
    await states.save_state(user, {"list": []})
    exported = await states.export_state(user)
    assert exported is not None
    exported["list"].append("mine")
    assert await states.export_state(user) == {"list": []}


async def test_messages_are_appended_to_the_session_and_to_the_copy(
    sessions: SessionHistoryService, user: str
) -> None:
    session = await sessions.create_session(user, " mine ")
    assert session.id == "mine"
    await sessions.append_message(session, said("one"))
    await sessions.append_message(session, [said("two").model_dump(), said("three", "assistant")])
    assert texts(session.messages) == ["one", "two", "three"]
    kept = await sessions.get_session(user, "mine")
    assert kept is not None
    assert texts(kept.messages) == ["one", "two", "three"]
    assert [message.role for message in kept.messages] == ["user", "user", "assistant"]


async def test_nothing_is_lost_when_two_append_at_once(sessions: SessionHistoryService, user: str) -> None:
    await sessions.create_session(user, "s")
    copies = [await sessions.get_session(user, "s") for _ in range(8)]
    await asyncio.gather(
        *(sessions.append_message(copy, said(str(n))) for n, copy in enumerate(copies) if copy is not None)
    )
    kept = await sessions.get_session(user, "s")
    assert kept is not None
    assert sorted(texts(kept.messages)) == [str(n) for n in range(8)]


async def test_sessions_are_listed_without_messages_and_deleted(
    sessions: SessionHistoryService, user: str
) -> None:
    for name in ("a", "b"):
        await sessions.append_message(await sessions.create_session(user, name), said("hello"))
    listed = await sessions.list_sessions(user)
    assert sorted((one.id, len(one.messages)) for one in listed) == [("a", 0), ("b", 0)]
    await sessions.delete_session(user, "a")
    await sessions.delete_session(user, "never was")
    assert [one.id for one in await sessions.list_sessions(user)] == ["b"]


async def test_names_never_meet(sessions: SessionHistoryService, states: StateService, user: str) -> None:
    """Two pairs of user and session stay separate even if their joined names are equal."""
    await sessions.create_session(user, "b:c")
    assert await sessions.list_sessions(f"{user}:b") == []
    assert await sessions.list_sessions("*") == []
    await states.save_state(user, {"mine": True}, session_id="b:c")
    assert await states.export_state(f"{user}:b", session_id="c") is None


async def test_memory_is_found_by_words_listed_in_pages_and_deleted(
    memories: MemoryService, user: str
) -> None:
    await memories.add_memory(user, [said("I like tea"), said("and books")], session_id="a")
    await memories.add_memory(user, [said("green tea")], session_id="b")
    assert texts(await memories.search_memory(user, [said("TEA please")])) == ["I like tea", "green tea"]
    assert texts(await memories.search_memory(user, [said("tea")], {"top_k": 1})) == ["green tea"]
    assert await memories.search_memory(user, []) == []
    assert texts(await memories.list_memory(user, {"page_num": 2, "page_size": 2})) == ["green tea"]
    held = len(await memories.list_memory(user))
    await memories.delete_memory(user, "")  # a session with an empty name, and not all sessions
    assert len(await memories.list_memory(user)) == held
    await memories.delete_memory(user, "a")
    assert texts(await memories.list_memory(user)) == ["green tea"]
    await memories.delete_memory(user)
    assert await memories.list_memory(user) == []


async def test_a_service_is_up_between_start_and_stop(backend: dict[str, str], user: str) -> None:
    service = await StateServiceFactory.create(**backend)
    assert not await service.health()
    with pytest.raises(RuntimeError, match="start"):
        await service.export_state(user)
    async with service:
        assert await service.health()
    assert not await service.health()


async def test_what_is_in_memory_is_gone_after_the_stop(user: str) -> None:
    service = InMemorySessionHistoryService()
    async with service:
        await service.create_session(user, "s")
    async with service:
        assert await service.list_sessions(user) == []


async def test_what_is_in_redis_stays_for_its_time_and_within_its_limit(redis: str, user: str) -> None:
    async with RedisSessionHistoryService(redis, ttl_seconds=100, max_messages_per_session=2) as service:
        session = await service.create_session(user, "s")
        await service.append_message(session, [said(str(n)) for n in range(5)])
        assert texts(session.messages) == ["3", "4"]
    async with (
        RedisSessionHistoryService(redis) as again,
        RedisMemoryService(redis, ttl_seconds=None) as memory,
    ):
        kept = await again.get_session(user, "s")
        assert kept is not None
        assert texts(kept.messages) == ["3", "4"]
        client = memory._redis
        assert 3500 < await client.ttl(f"session:{user}:s") <= 3600  # reading it restarted the hour
        await memory.add_memory(user, [said("for ever")])
        assert await client.ttl(f"user_memory:{user}") == -1
        await again.delete_user_sessions(user)
        assert await again.get_session(user, "s") is None


async def test_what_somebody_else_wrote_is_nothing(redis: str, user: str) -> None:
    async with RedisStateService(redis) as states, RedisSessionHistoryService(redis) as sessions:
        await states._redis.hset(f"user_state:{user}:default", "1", "{broken")
        await states._redis.set(f"session:{user}:s", "broken")
        assert await states.export_state(user) is None
        assert await sessions.get_session(user, "s") is None


async def test_a_redis_that_is_not_there_is_not_healthy() -> None:
    async with RedisStateService("redis://127.0.0.1:1/0", socket_connect_timeout=1) as service:
        assert not await service.health()


async def test_without_its_client_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(RedisMissing, match=r'pip install "portico-runtime\[redis\]"'):
        await RedisStateService().start()


async def test_the_environment_names_a_backend_and_its_options(
    monkeypatch: pytest.MonkeyPatch, redis: str, user: str
) -> None:
    monkeypatch.setenv("STATE_BACKEND", "redis")
    monkeypatch.setenv("STATE_REDIS_REDIS_URL", redis)
    monkeypatch.setenv("STATE_REDIS_TTL_SECONDS", "100")
    async with await StateServiceFactory.create() as service:
        assert isinstance(service, RedisStateService)
        assert await service.save_state(user, {}) == 1
        assert 0 < await service._redis.ttl(f"user_state:{user}:default") <= 100


async def test_a_backend_of_ones_own_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StateServiceFactory, "_registry", {})
    with pytest.raises(ValueError, match="Unsupported backend type: mine"):
        await StateServiceFactory.create("mine")
    StateServiceFactory.register_backend("Mine", RedisStateService)
    assert isinstance(await StateServiceFactory.create("mine"), RedisStateService)


@pytest.mark.parametrize("service", [Mem0MemoryService, TablestoreSessionHistoryService])
def test_services_that_are_not_there_say_so(service: Any) -> None:
    with pytest.raises(NotThereYet, match=f"{service.__name__} .* use the in-memory or Redis services"):
        service()


def test_plain_names_are_keys_as_they_are() -> None:
    assert key_part("ada-1_x@example.org") == "ada-1_x@example.org"
    assert key_part("a:b") != key_part("a%3Ab")
