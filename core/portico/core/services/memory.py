"""MemoryService: what is worth remembering of a user."""

import time

from grpc.aio import ServicerContext

from portico.core.convert.messages import load_object
from portico.core.convert.requests import check_id
from portico.core.convert.times import timestamp
from portico.core.engine.ids import new_id
from portico.core.errors import InvalidArgument
from portico.core.identity import user_of
from portico.core.services.caller import owner_of
from portico.core.services.paging import decode_token, encode_token, page_size, top_k
from portico.core.services.session import check_query
from portico.core.stores.base import MemoryRecord, MemoryStore
from portico.v1 import memory_pb2 as pb

MEMORIES = 1000
TEXT_BYTES = 64 * 1024


class MemoryService:
    """The memories of one store."""

    def __init__(self, memories: MemoryStore) -> None:
        self._memories = memories

    async def AddMemories(
        self, request: pb.AddMemoriesRequest, context: ServicerContext
    ) -> pb.AddMemoriesResponse:
        owner = owner_of(request.user_id)
        if not request.memories:
            raise InvalidArgument("memories", "at least one memory is required")
        if len(request.memories) > MEMORIES:
            raise InvalidArgument("memories", f"more than {MEMORIES} memories")
        now = time.time()
        records = [
            _new(owner, memory, f"memories[{index}]", now) for index, memory in enumerate(request.memories)
        ]
        await self._memories.add(records)
        return pb.AddMemoriesResponse(memories=[_memory(record) for record in records])

    async def SearchMemories(
        self, request: pb.SearchMemoriesRequest, context: ServicerContext
    ) -> pb.SearchMemoriesResponse:
        owner = owner_of(request.user_id)
        session_id = check_id(request.session_id, "session_id", required=False) or None
        hits = await self._memories.search(
            owner,
            check_query(request.query),
            top_k(request.top_k),
            session_id=session_id,
            metadata=dict(request.metadata),
        )
        return pb.SearchMemoriesResponse(
            hits=[pb.MemoryHit(memory=_memory(hit.memory), score=hit.score) for hit in hits]
        )

    async def ListMemories(
        self, request: pb.ListMemoriesRequest, context: ServicerContext
    ) -> pb.ListMemoriesResponse:
        owner = owner_of(request.user_id)
        session_id = check_id(request.session_id, "session_id", required=False) or None
        size = page_size(request.page_size)
        place = decode_token(request.page_token, float, str)
        before = None if place is None else (float(str(place[0])), str(place[1]))
        rows = await self._memories.list(owner, session_id, before, size + 1)
        token = encode_token(rows[size - 1].created_at, rows[size - 1].memory_id) if len(rows) > size else ""
        return pb.ListMemoriesResponse(memories=[_memory(row) for row in rows[:size]], next_page_token=token)

    async def DeleteMemories(
        self, request: pb.DeleteMemoriesRequest, context: ServicerContext
    ) -> pb.DeleteMemoriesResponse:
        owner = owner_of(request.user_id)
        session_id = check_id(request.session_id, "session_id", required=False) or None
        memory_id = check_id(request.memory_id, "memory_id", required=False) or None
        return pb.DeleteMemoriesResponse(
            deleted_count=await self._memories.delete(owner, session_id, memory_id)
        )


def _new(owner: str, memory: pb.Memory, field: str, now: float) -> MemoryRecord:
    if not memory.text.strip():
        raise InvalidArgument(f"{field}.text", "is required")
    if len(memory.text.encode()) > TEXT_BYTES:
        raise InvalidArgument(f"{field}.text", f"more than {TEXT_BYTES} bytes")
    load_object(memory.metadata_json, f"{field}.metadata_json")
    return MemoryRecord(
        memory_id=new_id("mem_"),
        user_id=owner,
        session_id=check_id(memory.session_id, f"{field}.session_id", required=False),
        text=memory.text,
        created_at=now,
        metadata=memory.metadata_json,
    )


def _memory(record: MemoryRecord) -> pb.Memory:
    return pb.Memory(
        memory_id=record.memory_id,
        user_id=user_of(record.user_id),
        session_id=record.session_id,
        text=record.text,
        metadata_json=record.metadata,
        created_time=timestamp(record.created_at),
    )
