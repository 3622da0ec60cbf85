"""MemoryService: texts that agents remember about a user."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, TypeAlias

from google.protobuf.field_mask_pb2 import FieldMask

from portico.client.convert import Json, json_text, to_timestamp
from portico.client.paging import Listing, listing
from portico.client.service import Service
from portico.client.services.memory_filters import FilterLike, to_filter
from portico.v1 import memory_pb2

MemoryLike: TypeAlias = str | memory_pb2.Memory | Mapping[str, Any]


class Unchanged(Enum):
    """Default of an argument: the field keeps its value. None clears the field."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED


class Memories(Service):
    """Users' memories. Every method raises PorticoError.

    A filter is a MetadataFilter of the contract or a dict in its shape, such as {"all": [{"path":
    ["year"], "operator": "ge", "value": 2020}]}; another dict raises ValueError.
    """

    async def add(
        self,
        memories: MemoryLike | Iterable[MemoryLike],
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        metadata: Json = None,
        key: str | None = None,
        created_time: datetime | None = None,
        expire_time: datetime | None = None,
    ) -> tuple[memory_pb2.Memory, ...]:
        """Stores memories, all or none, and returns them with their ids.

        Each is a text, a Memory, or a dict with `text` and any of the other arguments. The arguments of
        this call apply to memories that are texts. A memory whose key the user already has replaces the
        older one.

        Raises:
            TypeError: A memory is of another type.
        """
        common: dict[str, Any] = {
            "session_id": session_id,
            "metadata": metadata,
            "key": key,
            "created_time": created_time,
            "expire_time": expire_time,
        }
        if isinstance(memories, str | memory_pb2.Memory | Mapping) or not isinstance(memories, Iterable):
            memories = [memories]
        request = memory_pb2.AddMemoriesRequest(
            user_id=user_id or "", memories=[_to_memory(memory, common) for memory in memories]
        )
        return tuple((await self._calls.unary(self._calls.connection.memories.AddMemories, request)).memories)

    async def get(
        self, memory_id: str | None = None, *, key: str | None = None, user_id: str | None = None
    ) -> memory_pb2.Memory:
        """Returns one memory, by its id or its key. Raises NotFound."""
        request = memory_pb2.GetMemoryRequest(user_id=user_id or "", memory_id=memory_id or "", key=key or "")
        return (await self._calls.unary(self._calls.connection.memories.GetMemory, request)).memory

    async def update(
        self,
        memory_id: str,
        *,
        user_id: str | None = None,
        text: str | Unchanged = UNCHANGED,
        metadata: Json | Unchanged = UNCHANGED,
        session_id: str | Unchanged | None = UNCHANGED,
        expire_time: datetime | Unchanged | None = UNCHANGED,
    ) -> memory_pb2.Memory:
        """Replaces the given fields; None clears a field. Raises NotFound."""
        new, paths = memory_pb2.Memory(), []
        if not isinstance(text, Unchanged):
            new.text = text
            paths.append("text")
        if not isinstance(metadata, Unchanged):
            new.metadata_json = json_text(metadata)
            paths.append("metadata_json")
        if not isinstance(session_id, Unchanged):
            new.session_id = session_id or ""
            paths.append("session_id")
        if not isinstance(expire_time, Unchanged):
            if (moment := to_timestamp(expire_time)) is not None:
                new.expire_time.CopyFrom(moment)
            paths.append("expire_time")
        request = memory_pb2.UpdateMemoryRequest(
            user_id=user_id or "", memory_id=memory_id, memory=new, update_mask=FieldMask(paths=paths)
        )
        return (await self._calls.unary(self._calls.connection.memories.UpdateMemory, request)).memory

    async def search(
        self,
        query: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        filter: FilterLike = None,
        top_k: int = 0,
    ) -> tuple[memory_pb2.MemoryHit, ...]:
        """Returns memories that contain any of the words of the query, best match first.

        `metadata` compares top-level members as texts.
        """
        request = memory_pb2.SearchMemoriesRequest(
            user_id=user_id or "",
            query=query,
            session_id=session_id or "",
            metadata=metadata,
            filter=to_filter(filter),
            top_k=top_k,
        )
        return tuple((await self._calls.unary(self._calls.connection.memories.SearchMemories, request)).hits)

    def list(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        filter: FilterLike = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> Listing[memory_pb2.ListMemoriesResponse, memory_pb2.Memory]:
        """Lists a user's memories, newest first."""
        request = memory_pb2.ListMemoriesRequest(
            user_id=user_id or "",
            session_id=session_id or "",
            filter=to_filter(filter),
            page_size=page_size,
            page_token=page_token,
        )
        return listing(
            self._calls,
            lambda: self._calls.connection.memories.ListMemories,
            request,
            lambda page: page.memories,
        )

    async def delete(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        memory_id: str | None = None,
        key: str | None = None,
        filter: FilterLike = None,
        timeout: float | None = None,
    ) -> int:
        """Removes memories that match all arguments, or all memories of a user; returns how many.

        Many memories take long to delete, so the timeout, in seconds, is at least 600 by default. A call
        that ends early has deleted some memories; the same call deletes the rest.
        """
        request = memory_pb2.DeleteMemoriesRequest(
            user_id=user_id or "",
            session_id=session_id or "",
            memory_id=memory_id or "",
            key=key or "",
            filter=to_filter(filter),
        )
        calls = self._calls.deleting(timeout)
        return (await calls.unary(calls.connection.memories.DeleteMemories, request)).deleted_count


def _to_memory(value: MemoryLike, common: Mapping[str, Any]) -> memory_pb2.Memory:
    if isinstance(value, memory_pb2.Memory):
        return value
    if isinstance(value, str):
        return _memory(value, **common)
    if isinstance(value, Mapping):
        return _memory(**value)
    raise TypeError(f"a memory must be a string, a dict or a Memory, not {type(value).__name__}")


def _memory(
    text: str,
    *,
    session_id: str | None = None,
    metadata: Json = None,
    key: str | None = None,
    created_time: datetime | None = None,
    expire_time: datetime | None = None,
) -> memory_pb2.Memory:
    return memory_pb2.Memory(
        text=text,
        session_id=session_id or "",
        metadata_json=json_text(metadata),
        key=key or "",
        created_time=to_timestamp(created_time),
        expire_time=to_timestamp(expire_time),
    )
