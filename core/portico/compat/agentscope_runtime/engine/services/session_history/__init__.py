"""Conversations."""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from portico.compat.agentscope_runtime.engine.services.base import Service

__all__ = ["InMemorySessionHistoryService", "Session"]


@dataclass
class Session:
    """A conversation, oldest message first."""

    id: str
    user_id: str
    messages: list[Any] = field(default_factory=list)


class InMemorySessionHistoryService(Service):
    """Sessions by user; gone with the process. `context.session` is Portico's, which stays."""

    def __init__(self) -> None:
        super().__init__()
        self._sessions: dict[str, dict[str, Session]] = {}

    async def create_session(self, user_id: str, session_id: str | None = None) -> Session:
        """One that is there already is replaced."""
        session = Session((session_id or "").strip() or str(uuid4()), user_id)
        self._sessions.setdefault(user_id, {})[session.id] = session
        return session

    async def get_session(self, user_id: str, session_id: str) -> Session | None:
        return self._sessions.get(user_id, {}).get(session_id)

    async def delete_session(self, user_id: str, session_id: str) -> None:
        self._sessions.get(user_id, {}).pop(session_id, None)

    async def list_sessions(self, user_id: str) -> list[Session]:
        """Without their messages."""
        return [Session(session.id, user_id) for session in self._sessions.get(user_id, {}).values()]

    async def append_message(self, session: Session, message: Any) -> None:
        """One message or a list; in the given session and in the one that is kept."""
        messages = message if isinstance(message, list) else [message]
        kept = await self.get_session(session.user_id, session.id)
        session.messages.extend(messages)
        if kept is not None and kept is not session:
            kept.messages.extend(messages)
