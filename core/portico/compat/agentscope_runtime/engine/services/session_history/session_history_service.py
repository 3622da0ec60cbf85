"""Conversations in memory."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from portico.compat.agentscope_runtime.engine.schemas.agent_schemas import Message
from portico.compat.agentscope_runtime.engine.schemas.session import Session
from portico.compat.agentscope_runtime.engine.services.base import InMemory, ServiceWithLifecycleManager

log = logging.getLogger(__name__)


class SessionHistoryService(ServiceWithLifecycleManager):
    """Sessions by user. What is given out is a copy."""

    @abstractmethod
    async def create_session(self, user_id: str, session_id: str | None = None) -> Session:
        """One that is there already is replaced."""

    @abstractmethod
    async def get_session(self, user_id: str, session_id: str) -> Session | None: ...

    @abstractmethod
    async def delete_session(self, user_id: str, session_id: str) -> None: ...

    @abstractmethod
    async def list_sessions(self, user_id: str) -> list[Session]:
        """Without their messages."""

    @abstractmethod
    async def append_message(self, session: Session, message: Any) -> None:
        """A Message or its dict, or a list of them; to the given session and to the one that is kept."""


def new_session(user_id: str, session_id: str | None) -> Session:
    return Session(id=(session_id or "").strip() or str(uuid4()), user_id=user_id)


def messages_of(message: Any) -> Sequence[Message]:
    """Raises ValidationError for what is no message."""
    given = message if isinstance(message, list) else [message]
    return [
        one if isinstance(one, Message) else Message.model_validate(one) for one in given if one is not None
    ]


class InMemorySessionHistoryService(InMemory, SessionHistoryService):
    """Gone when it stops. `context.session` is Portico's, which stays."""

    def __init__(self) -> None:
        super().__init__()
        self._sessions: dict[str, dict[str, Session]] = {}

    def _forget(self) -> None:
        self._sessions.clear()

    async def create_session(self, user_id: str, session_id: str | None = None) -> Session:
        self._check()
        session = new_session(user_id, session_id)
        self._sessions.setdefault(user_id, {})[session.id] = session
        return session.model_copy(deep=True)

    async def get_session(self, user_id: str, session_id: str) -> Session | None:
        """Made when it is not there."""
        self._check()
        sessions = self._sessions.setdefault(user_id, {})
        session = sessions.setdefault(session_id, Session(id=session_id, user_id=user_id))
        return session.model_copy(deep=True)

    async def delete_session(self, user_id: str, session_id: str) -> None:
        self._check()
        self._sessions.get(user_id, {}).pop(session_id, None)

    async def list_sessions(self, user_id: str) -> list[Session]:
        self._check()
        return [Session(id=id, user_id=user_id) for id in self._sessions.get(user_id, {})]

    async def append_message(self, session: Session, message: Any) -> None:
        self._check()
        messages = messages_of(message)
        session.messages.extend(messages)
        kept = self._sessions.get(session.user_id, {}).get(session.id)
        if kept is None:
            log.warning("session %s is not kept here: its new messages are not either", session.id)
        else:
            kept.messages.extend(one.model_copy(deep=True) for one in messages)
