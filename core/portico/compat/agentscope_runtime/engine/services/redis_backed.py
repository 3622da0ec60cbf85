"""The base of services in Redis: the connection, and the names of keys.

Redis is the only owner of the data, so any number of processes may share it. Keys and values have the
reference's layout.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from redis.asyncio import Redis

URL = "redis://localhost:6379/0"
HOUR = 3600


class RedisMissing(ImportError):
    """The Redis client is not installed; the message says how to install it."""

    def __init__(self) -> None:
        super().__init__(
            'services in Redis need its client: pip install "portico-runtime[redis]"', name="redis"
        )


class RedisBacked:
    """start, stop and health. Data unused for `ttl_seconds` expires; None keeps it without limit."""

    def __init__(
        self,
        redis_url: str = URL,
        redis_client: "Redis | None" = None,
        socket_timeout: float | None = 5.0,
        socket_connect_timeout: float | None = 5.0,
        max_connections: int | None = None,
        retry_on_timeout: bool = True,
        ttl_seconds: int | None = HOUR,
        health_check_interval: float | None = 30.0,
        socket_keepalive: bool = True,
    ) -> None:
        self._url = redis_url
        self._client: Any = redis_client
        self._ttl = None if ttl_seconds is None else int(ttl_seconds)
        self._options: dict[str, Any] = {
            "socket_timeout": socket_timeout,
            "socket_connect_timeout": socket_connect_timeout,
            "max_connections": max_connections,
            "health_check_interval": health_check_interval,
        }
        if not retry_on_timeout:  # the client's default policy is to retry
            self._options["retry"] = None
        if not redis_url.startswith("unix:"):
            self._options["socket_keepalive"] = socket_keepalive

    async def start(self) -> None:
        """Creates the client; the first use connects. Raises RedisMissing."""
        if self._client is None:
            try:
                from redis.asyncio import from_url
            except ImportError:
                raise RedisMissing from None
            self._client = from_url(self._url, decode_responses=True, **self._options)

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def health(self) -> bool:
        if self._client is None:
            return False
        try:
            return bool(await self._client.ping())
        except Exception:
            return False

    @property
    def _redis(self) -> Any:
        """Returns the client. Raises RuntimeError before the start."""
        if self._client is None:
            raise RuntimeError("Redis connection is not available; await start() first")
        return self._client

    async def _used(self, key: str) -> None:
        """Restarts the expiry of a key."""
        if self._ttl is not None:
            await self._redis.expire(key, self._ttl)

    async def _change(self, key: str, read: Callable[[Any], Any], write: Callable[[Any, Any], None]) -> None:
        """Reads and writes a key atomically: repeats both when another client wrote between them."""

        async def attempt(pipeline: Any) -> None:
            found = await read(pipeline)
            pipeline.multi()
            write(pipeline, found)
            if self._ttl is not None:
                pipeline.expire(key, self._ttl)

        await self._redis.transaction(attempt, key)


class RedisMessages(RedisBacked):
    """Stores messages: the newest `max_messages_per_session` of each session, or all."""

    def __init__(
        self,
        redis_url: str = URL,
        redis_client: "Redis | None" = None,
        socket_timeout: float | None = 5.0,
        socket_connect_timeout: float | None = 5.0,
        max_connections: int | None = None,
        retry_on_timeout: bool = True,
        ttl_seconds: int | None = HOUR,
        max_messages_per_session: int | None = None,
        health_check_interval: float | None = 30.0,
        socket_keepalive: bool = True,
    ) -> None:
        super().__init__(
            redis_url,
            redis_client,
            socket_timeout,
            socket_connect_timeout,
            max_connections,
            retry_on_timeout,
            ttl_seconds,
            health_check_interval,
            socket_keepalive,
        )
        self._most = max_messages_per_session

    def _newest(self, messages: list[Any]) -> list[Any]:
        return messages if self._most is None else messages[-self._most :]


def key_part(name: str) -> str:
    """Escapes a name as one part of a key, so that different pairs of names have different keys, without
    patterns.
    """
    return quote(name, safe=" @+=,/!~#&'()$;|<>{}") if any(c in name for c in ":%*?[]\\^") else name
