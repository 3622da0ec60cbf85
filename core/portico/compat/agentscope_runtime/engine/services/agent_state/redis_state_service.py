"""Stores the state of agents in Redis: a hash for each session, with JSON by round."""

import json
from typing import Any

from portico.compat.agentscope_runtime.engine.services.agent_state.state_service import (
    DEFAULT_SESSION,
    StateService,
)
from portico.compat.agentscope_runtime.engine.services.redis_backed import RedisBacked, key_part


class RedisStateService(RedisBacked, StateService):
    """State in Redis. Concurrent saves get different rounds."""

    async def save_state(
        self, user_id: str, state: dict[str, Any], session_id: str | None = None, round_id: int | None = None
    ) -> int:
        key, body = _key(user_id, session_id), json.dumps(state)
        if round_id is not None:
            await self._redis.hset(key, round_id, body)
        else:
            round_id = await self._last(key) + 1
            while not await self._redis.hsetnx(key, round_id, body):
                round_id += 1
        await self._used(key)
        return round_id

    async def export_state(
        self, user_id: str, session_id: str | None = None, round_id: int | None = None
    ) -> dict[str, Any] | None:
        key = _key(user_id, session_id)
        number = await self._last(key) if round_id is None else round_id
        body = await self._redis.hget(key, number)
        if body is None:
            return None
        await self._used(key)
        try:
            state: dict[str, Any] = json.loads(body)
        except ValueError:
            return None  # the session of another user
        return state

    async def _last(self, key: str) -> int:
        return max((int(field) for field in await self._redis.hkeys(key) if field.isdigit()), default=0)


def _key(user_id: str, session_id: str | None) -> str:
    return f"user_state:{key_part(user_id)}:{key_part(session_id or DEFAULT_SESSION)}"
