"""A memory of AgentScope 1 that is a session of a history service."""

from typing import Any

from agentscope.memory import MemoryBase
from agentscope.message import Msg

from portico.compat.agentscope_runtime.engine.services.session_history import (
    InMemorySessionHistoryService,
    Session,
)


class AgentScopeSessionHistoryMemory(MemoryBase):
    """The session is made when it is first used. Its messages are not part of the agent's state, and marks,
    which an agent puts on hints for itself, live as long as this object."""

    def __init__(self, service: InMemorySessionHistoryService, user_id: str, session_id: str) -> None:
        super().__init__()
        self._service = service
        self._user_id = user_id
        self._session_id = session_id
        self._marks: dict[str, set[str]] = {}  # by message

    async def _session(self) -> Session:
        session = await self._service.get_session(self._user_id, self._session_id)
        return session or await self._service.create_session(self._user_id, self._session_id)

    async def add(self, memories: Any = None, marks: Any = None, **_more: Any) -> None:
        messages = memories if isinstance(memories, list) else [memories]
        said = [message for message in messages if message is not None]
        for message in said:
            self._marks.setdefault(message.id, set()).update(_names(marks))
        await self._service.append_message(await self._session(), said)

    async def get_memory(
        self,
        mark: str | None = None,
        exclude_mark: str | None = None,
        prepend_summary: bool = True,
        **_more: Any,
    ) -> list[Msg]:
        summary = self._compressed_summary if prepend_summary else ""
        return ([Msg("user", summary, "user")] if summary else []) + [
            message
            for message in (await self._session()).messages
            if (mark is None or self._has(message, mark))
            and (exclude_mark is None or not self._has(message, exclude_mark))
        ]

    def _has(self, message: Msg, mark: str) -> bool:
        return mark in self._marks.get(message.id, ())

    async def size(self) -> int:
        return len((await self._session()).messages)

    async def clear(self) -> None:
        (await self._session()).messages.clear()

    async def delete(self, msg_ids: list[str], **_more: Any) -> int:
        """How many were removed."""
        session = await self._session()
        before = len(session.messages)
        session.messages[:] = [message for message in session.messages if message.id not in msg_ids]
        return before - len(session.messages)

    async def delete_by_mark(self, mark: str | list[str], *_arguments: Any, **_more: Any) -> int:
        """How many were removed."""
        marks = _names(mark)
        return await self.delete([id for id, has in self._marks.items() if has & marks])

    async def update_messages_mark(
        self, new_mark: str | None, old_mark: str | None = None, msg_ids: list[str] | None = None
    ) -> int:
        """How many were changed."""
        changed = 0
        for message in (await self._session()).messages:
            has = self._marks.setdefault(message.id, set())
            if (msg_ids is not None and message.id not in msg_ids) or (old_mark and old_mark not in has):
                continue
            has.discard(old_mark or "")
            has.update(_names(new_mark))
            changed += 1
        return changed


def _names(marks: Any) -> set[str]:
    return {marks} if isinstance(marks, str) else set(marks or ())
