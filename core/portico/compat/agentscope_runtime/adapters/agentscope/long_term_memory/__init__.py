"""A long-term memory of AgentScope 1 that is stored in a memory service."""

from collections.abc import Sequence
from typing import Any

from agentscope.memory import LongTermMemoryBase
from agentscope.message import Msg, TextBlock
from agentscope.tool import ToolResponse

from portico.compat.agentscope_runtime.adapters.agentscope.message import agentscope_msg_to_message
from portico.compat.agentscope_runtime.engine.services.memory import MemoryService

__all__ = ["AgentScopeLongTermMemory"]


class AgentScopeLongTermMemory(LongTermMemoryBase):
    """A user's memory. Retrieved memories are returned as text, one per line."""

    def __init__(self, service: MemoryService, user_id: str, session_id: str) -> None:
        super().__init__()
        self._service = service
        self.user_id = user_id
        self.session_id = session_id

    async def record(self, msgs: list[Msg | None], **kwargs: Any) -> None:
        said = [msg for msg in msgs or () if msg is not None]
        if said:
            await self._service.add_memory(
                self.user_id, agentscope_msg_to_message(said), session_id=self.session_id
            )

    async def retrieve(self, msg: Msg | list[Msg] | None, limit: int = 5, **kwargs: Any) -> str:
        """Returns at most `limit` memories for each message."""
        found: list[str] = []
        for one in [msg] if isinstance(msg, Msg) else msg or ():
            hits = await self._service.search_memory(
                self.user_id, agentscope_msg_to_message(one), filters={"top_k": limit}
            )
            found += [hit.get_text_content() or "" for hit in hits]
        return "\n".join(dict.fromkeys(found))

    async def record_to_memory(self, thinking: str, content: list[str], **kwargs: Any) -> ToolResponse:
        """Record what is worth remembering.

        Args:
            thinking (str): Why it is worth remembering.
            content (list[str]): What to remember: specific and short.
        """
        await self.record([_said([thinking, *content])])
        return _told("Successfully recorded content to memory")

    async def retrieve_from_memory(self, keywords: list[str], limit: int = 5, **kwargs: Any) -> ToolResponse:
        """Find what was remembered.

        Args:
            keywords (list[str]): What to look for, each by itself: a name, a date, a place.
            limit (int): How many to find for each.
        """
        return _told(await self.retrieve([_said([keyword]) for keyword in keywords], limit))


def _said(texts: Sequence[str]) -> Msg:
    return Msg("assistant", [TextBlock(type="text", text="\n".join(texts))], "assistant")


def _told(text: str) -> ToolResponse:
    return ToolResponse(content=[TextBlock(type="text", text=text)])
