"""Stores conversations in Redis: each session is one JSON text."""

from typing import Any

from portico.compat.agentscope_runtime.engine.schemas.session import Session
from portico.compat.agentscope_runtime.engine.services.redis_backed import RedisMessages, key_part
from portico.compat.agentscope_runtime.engine.services.session_history.session_history_service import (
    SessionHistoryService,
    messages_of,
    new_session,
)


class RedisSessionHistoryService(RedisMessages, SessionHistoryService):
    """Sessions in Redis. A session keeps its newest `max_messages_per_session` messages, or all."""

    async def create_session(self, user_id: str, session_id: str | None = None) -> Session:
        session = new_session(user_id, session_id)
        await self._redis.set(_key(user_id, session.id), session.model_dump_json(), ex=self._ttl)
        return session

    async def get_session(self, user_id: str, session_id: str) -> Session | None:
        key = _key(user_id, session_id)
        session = _session(await self._redis.get(key))
        if session is not None:
            await self._used(key)
        return session

    async def delete_session(self, user_id: str, session_id: str) -> None:
        await self._redis.delete(_key(user_id, session_id))

    async def list_sessions(self, user_id: str) -> list[Session]:
        sessions = [_session(await self._redis.get(key)) for key in await self._keys(user_id)]
        return [Session(id=one.id, user_id=one.user_id) for one in sessions if one is not None]

    async def append_message(self, session: Session, message: Any) -> None:
        messages = messages_of(message)
        key = _key(session.user_id, session.id)

        async def read(pipeline: Any) -> Session:
            return _session(await pipeline.get(key)) or Session(id=session.id, user_id=session.user_id)

        def write(pipeline: Any, kept: Session) -> None:
            kept.messages = self._newest([*kept.messages, *messages])
            pipeline.set(key, kept.model_dump_json())

        await self._change(key, read, write)
        session.messages = self._newest([*session.messages, *messages])

    async def delete_user_sessions(self, user_id: str) -> None:
        """Deletes all sessions of a user."""
        keys = await self._keys(user_id)
        if keys:
            await self._redis.delete(*keys)

    async def _keys(self, user_id: str) -> list[str]:
        return [key async for key in self._redis.scan_iter(match=f"session:{key_part(user_id)}:*", count=100)]


def _key(user_id: str, session_id: str) -> str:
    return f"session:{key_part(user_id)}:{key_part(session_id)}"


def _session(body: str | bytes | None) -> Session | None:
    try:
        return None if body is None else Session.model_validate_json(body)
    except ValueError:
        return None  # the session of another user
