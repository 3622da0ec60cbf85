"""MemoryService: what is worth remembering of a user."""

from collections.abc import Iterable, Mapping

from portico.client.convert import Json, json_text
from portico.client.paging import Listing, listing
from portico.client.service import Service
from portico.v1 import memory_pb2


class Memories(Service):
    """Users' memories. Every method raises PorticoError."""

    async def add(
        self,
        memories: str | Iterable[str | memory_pb2.Memory],
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        metadata: Json = None,
    ) -> tuple[memory_pb2.Memory, ...]:
        """Stores memories, all or none, and returns them with their ids.

        Session and metadata are given to those that are texts.
        """
        metadata_json = json_text(metadata)
        request = memory_pb2.AddMemoriesRequest(
            user_id=user_id or "",
            memories=[
                memory_pb2.Memory(text=memory, session_id=session_id or "", metadata_json=metadata_json)
                if isinstance(memory, str)
                else memory
                for memory in ([memories] if isinstance(memories, str) else memories)
            ],
        )
        return tuple((await self._calls.unary(self._calls.connection.memories.AddMemories, request)).memories)

    async def search(
        self,
        query: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        top_k: int = 0,
    ) -> tuple[memory_pb2.MemoryHit, ...]:
        """Memories that have any of these words and all of this metadata, best first."""
        request = memory_pb2.SearchMemoriesRequest(
            user_id=user_id or "", query=query, session_id=session_id or "", metadata=metadata, top_k=top_k
        )
        return tuple((await self._calls.unary(self._calls.connection.memories.SearchMemories, request)).hits)

    def list(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> Listing[memory_pb2.ListMemoriesResponse, memory_pb2.Memory]:
        """A user's memories, newest first."""
        request = memory_pb2.ListMemoriesRequest(
            user_id=user_id or "", session_id=session_id or "", page_size=page_size, page_token=page_token
        )
        return listing(
            self._calls,
            lambda: self._calls.connection.memories.ListMemories,
            request,
            lambda page: page.memories,
        )

    async def delete(
        self, *, user_id: str | None = None, session_id: str | None = None, memory_id: str | None = None
    ) -> int:
        """Removes one memory, a session's or all of a user's; returns how many."""
        request = memory_pb2.DeleteMemoriesRequest(
            user_id=user_id or "", session_id=session_id or "", memory_id=memory_id or ""
        )
        return (
            await self._calls.unary(self._calls.connection.memories.DeleteMemories, request)
        ).deleted_count
