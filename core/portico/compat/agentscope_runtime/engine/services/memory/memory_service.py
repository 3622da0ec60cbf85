"""Stores memories of users in memory: messages, found by the words of their texts."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from portico.compat.agentscope_runtime.engine.schemas.agent_schemas import Message, MessageType
from portico.compat.agentscope_runtime.engine.services.base import InMemory, ServiceWithLifecycleManager

DEFAULT_SESSION = "default"
PAGE = 10


class MemoryService(ServiceWithLifecycleManager):
    """Messages by user and session."""

    @abstractmethod
    async def add_memory(self, user_id: str, messages: list[Any], session_id: str | None = None) -> None: ...

    @abstractmethod
    async def search_memory(
        self, user_id: str, messages: list[Any], filters: dict[str, Any] | None = None
    ) -> list[Any]:
        """Returns messages with a word of the last message's text; the newest `top_k`, or all."""

    @abstractmethod
    async def list_memory(self, user_id: str, filters: dict[str, Any] | None = None) -> list[Any]:
        """Returns page `page_num` (default 1) of `page_size` (default 10) messages."""

    @abstractmethod
    async def delete_memory(self, user_id: str, session_id: str | None = None) -> None:
        """Deletes the memories of one session, or all of the user's."""

    async def get_query_text(self, message: Message) -> str:
        """Returns a message's first text; empty for other messages."""
        return text_of(message)


def text_of(message: Message | None) -> str:
    if message is None or message.type != MessageType.MESSAGE:
        return ""
    return message.get_text_content() or ""


def found(kept: Sequence[Message], messages: list[Any], filters: dict[str, Any] | None) -> list[Message]:
    """Returns the result of a search."""
    words = set(text_of(messages[-1]).lower().split()) if messages else set()
    hits = [one for one in kept if any(word in text_of(one).lower() for word in words)]
    most = (filters or {}).get("top_k")
    return hits[-most:] if isinstance(most, int) and most > 0 else hits


def page(kept: Sequence[Message], filters: dict[str, Any] | None) -> list[Message]:
    """Returns a page of a list."""
    number, size = (filters or {}).get("page_num", 1), (filters or {}).get("page_size", PAGE)
    return list(kept[(number - 1) * size : number * size])


class InMemoryMemoryService(InMemory, MemoryService):
    """Keeps the memories until the service stops. Portico's own `context.memory` is durable."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, dict[str, list[Message]]] = {}

    def _forget(self) -> None:
        self._kept.clear()

    async def add_memory(self, user_id: str, messages: list[Any], session_id: str | None = None) -> None:
        self._check()
        sessions = self._kept.setdefault(user_id, {})
        sessions.setdefault(session_id or DEFAULT_SESSION, []).extend(messages)

    async def search_memory(
        self, user_id: str, messages: list[Any], filters: dict[str, Any] | None = None
    ) -> list[Any]:
        self._check()
        return found(self._all(user_id), messages, filters)

    async def list_memory(self, user_id: str, filters: dict[str, Any] | None = None) -> list[Any]:
        self._check()
        return page(self._all(user_id), filters)

    async def delete_memory(self, user_id: str, session_id: str | None = None) -> None:
        self._check()
        if session_id is None:
            self._kept.pop(user_id, None)
        else:
            self._kept.get(user_id, {}).pop(session_id, None)

    def _all(self, user_id: str) -> Sequence[Message]:
        sessions = self._kept.get(user_id, {})
        return [message for session in sorted(sessions) for message in sessions[session]]
