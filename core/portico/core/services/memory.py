"""MemoryService: stores and searches memories of users."""

import time

from grpc.aio import ServicerContext

from portico.core.convert.memories import (
    changes_from_proto,
    filter_from_proto,
    memory_from_proto,
    memory_to_proto,
)
from portico.core.convert.requests import check_id
from portico.core.errors import InvalidArgument
from portico.core.services.rpc.current_principal import resolve_owner
from portico.core.services.rpc.page_tokens import decode_token, encode_token, page_size
from portico.core.stores.argument_checks import check_query, check_top_k
from portico.core.stores.memory_checks import check_key, ordered_by_creation
from portico.core.stores.ports.stores import MemoryStore
from portico.v1 import memory_pb2 as pb

MEMORIES = 1000


class MemoryService:
    """Serves the memories of one store."""

    def __init__(self, memories: MemoryStore) -> None:
        self._memories = memories

    async def AddMemories(
        self, request: pb.AddMemoriesRequest, context: ServicerContext
    ) -> pb.AddMemoriesResponse:
        owner = resolve_owner(request.user_id)
        if not request.memories:
            raise InvalidArgument("memories", "at least one memory is required")
        if len(request.memories) > MEMORIES:
            raise InvalidArgument("memories", f"more than {MEMORIES} memories")
        records = [
            memory_from_proto(owner, memory, f"memories[{index}]")
            for index, memory in enumerate(request.memories)
        ]
        keys = [record.key for record in records if record.key]
        if len(set(keys)) < len(keys):
            raise InvalidArgument("memories", "must not contain two with the same key")
        stored = await self._memories.add(ordered_by_creation(records))
        return pb.AddMemoriesResponse(memories=[memory_to_proto(record) for record in stored])

    async def GetMemory(self, request: pb.GetMemoryRequest, context: ServicerContext) -> pb.GetMemoryResponse:
        owner = resolve_owner(request.user_id)
        memory_id = check_id(request.memory_id, "memory_id", required=False) or None
        check_key(request.key)
        if bool(memory_id) == bool(request.key):
            raise InvalidArgument("memory_id", "set exactly one of memory_id and key")
        record = await self._memories.get(owner, memory_id, key=request.key or None)
        return pb.GetMemoryResponse(memory=memory_to_proto(record))

    async def UpdateMemory(
        self, request: pb.UpdateMemoryRequest, context: ServicerContext
    ) -> pb.UpdateMemoryResponse:
        owner = resolve_owner(request.user_id)
        memory_id = check_id(request.memory_id, "memory_id")
        changes = changes_from_proto(request)
        changes["updated_at"] = time.time()
        record = await self._memories.update(owner, memory_id, changes)
        return pb.UpdateMemoryResponse(memory=memory_to_proto(record))

    async def SearchMemories(
        self, request: pb.SearchMemoriesRequest, context: ServicerContext
    ) -> pb.SearchMemoriesResponse:
        owner = resolve_owner(request.user_id)
        session_id = check_id(request.session_id, "session_id", required=False) or None
        hits = await self._memories.search(
            owner,
            check_query(request.query),
            check_top_k(request.top_k),
            session_id=session_id,
            filter=filter_from_proto(request),
        )
        return pb.SearchMemoriesResponse(
            hits=[pb.MemoryHit(memory=memory_to_proto(hit.memory), score=hit.score) for hit in hits]
        )

    async def ListMemories(
        self, request: pb.ListMemoriesRequest, context: ServicerContext
    ) -> pb.ListMemoriesResponse:
        owner = resolve_owner(request.user_id)
        session_id = check_id(request.session_id, "session_id", required=False) or None
        size = page_size(request.page_size)
        place = decode_token(request.page_token, float, str)
        before = None if place is None else (float(str(place[0])), str(place[1]))
        rows = await self._memories.list(
            owner, session_id, before, size + 1, filter=filter_from_proto(request)
        )
        token = encode_token(rows[size - 1].created_at, rows[size - 1].memory_id) if len(rows) > size else ""
        return pb.ListMemoriesResponse(
            memories=[memory_to_proto(row) for row in rows[:size]], next_page_token=token
        )

    async def DeleteMemories(
        self, request: pb.DeleteMemoriesRequest, context: ServicerContext
    ) -> pb.DeleteMemoriesResponse:
        owner = resolve_owner(request.user_id)
        session_id = check_id(request.session_id, "session_id", required=False) or None
        memory_id = check_id(request.memory_id, "memory_id", required=False) or None
        check_key(request.key)
        if request.HasField("filter") and not (request.filter.all or request.filter.any):
            raise InvalidArgument("filter", "has no condition; add one, or leave the filter out")
        deleted = await self._memories.delete(
            owner, session_id, memory_id, key=request.key or None, filter=filter_from_proto(request)
        )
        return pb.DeleteMemoriesResponse(deleted_count=deleted)
