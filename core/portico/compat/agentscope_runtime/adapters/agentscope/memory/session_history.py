"""A memory of AgentScope 1 that is stored as a session of a history service."""

from typing import Any

from agentscope.memory import MemoryBase
from agentscope.message import Msg

from portico.compat.agentscope_runtime.adapters.agentscope.message import (
    agentscope_msg_to_message,
    message_to_agentscope_msg,
)
from portico.compat.agentscope_runtime.engine.services.session_history import Session, SessionHistoryService


class AgentScopeSessionHistoryMemory(MemoryBase):
    """The session is created on first use. Its messages are not part of the agent's state.

    Marks, which an agent sets on its own hints, exist as long as this object.
    """

    def __init__(self, service: SessionHistoryService, user_id: str, session_id: str) -> None:
        super().__init__()
        self._service = service
        self.user_id = user_id
        self.session_id = session_id
        self._marks: dict[str, set[str]] = {}  # by message id

    async def _session(self) -> Session:
        session = await self._service.get_session(self.user_id, self.session_id)
        return session or await self._service.create_session(self.user_id, self.session_id)

    async def _all(self) -> list[Msg]:
        messages: list[Msg] = message_to_agentscope_msg((await self._session()).messages)
        return messages

    async def add(self, memories: Any = None, marks: Any = None, **_more: Any) -> None:
        messages = memories if isinstance(memories, list) else [memories]
        said = [message for message in messages if message is not None]
        for message in said:
            self._marks.setdefault(message.id, set()).update(_names(marks))
        if said:
            await self._service.append_message(await self._session(), agentscope_msg_to_message(said))

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
            for message in await self._all()
            if (mark is None or self._has(message, mark))
            and (exclude_mark is None or not self._has(message, exclude_mark))
        ]

    def _has(self, message: Msg, mark: str) -> bool:
        return mark in self._marks.get(message.id, ())

    async def size(self) -> int:
        return len(await self._all())

    async def clear(self) -> None:
        await self._service.delete_session(self.user_id, self.session_id)

    async def delete(self, msg_ids: list[str], **_more: Any) -> int:
        """Removes messages; returns how many existed."""
        before = await self._all()
        left = [message for message in before if message.id not in msg_ids]
        if len(left) < len(before):
            session = await self._service.create_session(self.user_id, self.session_id)
            await self._service.append_message(session, agentscope_msg_to_message(left))
        return len(before) - len(left)

    async def delete_by_mark(self, mark: str | list[str], *_arguments: Any, **_more: Any) -> int:
        """Removes messages with the mark; returns how many existed."""
        marks = _names(mark)
        return await self.delete([id for id, has in self._marks.items() if has & marks])

    async def update_messages_mark(
        self, new_mark: str | None, old_mark: str | None = None, msg_ids: list[str] | None = None
    ) -> int:
        """Changes the mark of messages; returns how many were changed."""
        changed = 0
        for message in await self._all():
            has = self._marks.setdefault(message.id, set())
            if (msg_ids is not None and message.id not in msg_ids) or (old_mark and old_mark not in has):
                continue
            has.discard(old_mark or "")
            has.update(_names(new_mark))
            changed += 1
        return changed


def _names(marks: Any) -> set[str]:
    return {marks} if isinstance(marks, str) else set(marks or ())
