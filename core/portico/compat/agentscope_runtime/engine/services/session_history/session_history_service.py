"""Stores conversations in memory."""

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
    """Sessions by user. Returned objects are copies."""

    @abstractmethod
    async def create_session(self, user_id: str, session_id: str | None = None) -> Session:
        """Creates a session; replaces an existing one."""

    @abstractmethod
    async def get_session(self, user_id: str, session_id: str) -> Session | None: ...

    @abstractmethod
    async def delete_session(self, user_id: str, session_id: str) -> None: ...

    @abstractmethod
    async def list_sessions(self, user_id: str) -> list[Session]:
        """Lists sessions without their messages."""

    @abstractmethod
    async def append_message(self, session: Session, message: Any) -> None:
        """Appends a Message, its dict, or a list of them, to the given and the stored session."""


def new_session(user_id: str, session_id: str | None) -> Session:
    return Session(id=(session_id or "").strip() or str(uuid4()), user_id=user_id)


def messages_of(message: Any) -> Sequence[Message]:
    """Converts to Messages. Raises ValidationError for malformed ones."""
    given = message if isinstance(message, list) else [message]
    return [
        one if isinstance(one, Message) else Message.model_validate(one) for one in given if one is not None
    ]


class InMemorySessionHistoryService(InMemory, SessionHistoryService):
    """Keeps the sessions until the service stops. Portico's own `context.session` is durable."""

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
        """Returns a session, created if necessary."""
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
            log.warning(
                "session %s is not stored in this service; its new messages are not stored", session.id
            )
        else:
            kept.messages.extend(one.model_copy(deep=True) for one in messages)
