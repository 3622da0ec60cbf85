"""Stores memories in Redis: a hash for each user, with JSON by session."""

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from portico.compat.agentscope_runtime.engine.schemas.agent_schemas import Message
from portico.compat.agentscope_runtime.engine.services.memory.memory_service import (
    DEFAULT_SESSION,
    MemoryService,
    found,
    page,
)
from portico.compat.agentscope_runtime.engine.services.redis_backed import RedisMessages, key_part

_MESSAGES = TypeAdapter(list[Message])


class RedisMemoryService(RedisMessages, MemoryService):
    """Memories in Redis. A session keeps its newest `max_messages_per_session` messages, or all."""

    async def add_memory(self, user_id: str, messages: list[Any], session_id: str | None = None) -> None:
        key, field = _key(user_id), session_id or DEFAULT_SESSION

        async def read(pipeline: Any) -> Sequence[Message]:
            return _messages(await pipeline.hget(key, field))

        def write(pipeline: Any, kept: Sequence[Message]) -> None:
            pipeline.hset(key, field, _MESSAGES.dump_json(self._newest([*kept, *messages])))

        await self._change(key, read, write)

    async def search_memory(
        self, user_id: str, messages: list[Any], filters: dict[str, Any] | None = None
    ) -> list[Any]:
        return found(await self._all(user_id), messages, filters)

    async def list_memory(self, user_id: str, filters: dict[str, Any] | None = None) -> list[Any]:
        return page(await self._all(user_id), filters)

    async def delete_memory(self, user_id: str, session_id: str | None = None) -> None:
        if session_id is None:
            await self._redis.delete(_key(user_id))
        else:
            await self._redis.hdel(_key(user_id), session_id)

    async def delete_user_memory(self, user_id: str) -> None:
        await self._redis.delete(_key(user_id))

    async def clear_all_memory(self) -> None:
        """Deletes the memories of all users."""
        keys = [key async for key in self._redis.scan_iter(match="user_memory:*", count=100)]
        if keys:
            await self._redis.delete(*keys)

    async def _all(self, user_id: str) -> Sequence[Message]:
        key = _key(user_id)
        sessions = await self._redis.hgetall(key)
        await self._used(key)
        return [message for session in sorted(sessions) for message in _messages(sessions[session])]


def _key(user_id: str) -> str:
    return f"user_memory:{key_part(user_id)}"


def _messages(body: str | bytes | None) -> Sequence[Message]:
    try:
        return [] if body is None else _MESSAGES.validate_json(body)
    except ValueError:
        return []  # the session of another user
