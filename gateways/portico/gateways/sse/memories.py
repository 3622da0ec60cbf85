"""REST for memories."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from portico.gateways.http.fields import dump
from portico.gateways.sse.answers import (
    BODY,
    CoreDep,
    Given,
    PageSize,
    PageToken,
    answer,
    checked,
    errors,
    seconds,
    takes,
)
from portico.gateways.sse.encode import embedded
from portico.gateways.sse.stored_models import (
    AddMemories,
    Deleted,
    MemoriesAdded,
    MemoryHits,
    MemoryPage,
    SearchMemories,
)
from portico.v1 import memory_pb2

routes = APIRouter(prefix="/memories", tags=["memories"])


def _memory(memory: memory_pb2.Memory) -> dict[str, Any]:
    return {
        "memory_id": memory.memory_id,
        "user_id": memory.user_id,
        "session_id": memory.session_id,
        "text": memory.text,
        "metadata": embedded(memory.metadata_json),
        "created_at": seconds(memory.created_time),
    }


@routes.post(
    "",
    status_code=201,
    responses={201: {"model": MemoriesAdded}, **errors(*BODY)},
    openapi_extra=takes("AddMemories"),
)
async def add_memories(given: Given, request: Request, core: CoreDep) -> Response:
    """Store memories and make them searchable."""
    body = checked(AddMemories, given)
    memories = [
        memory_pb2.Memory(
            text=item.text,
            session_id=item.session_id,
            metadata_json=dump(item.metadata, f"memories[{index}].metadata") if item.metadata else "",
        )
        for index, item in enumerate(body.memories)
    ]
    added = await core.of(request).memories.add(memories, user_id=body.user_id)
    return answer({"memories": [_memory(item) for item in added]}, 201)


@routes.post(
    "/search",
    responses={200: {"model": MemoryHits}, **errors(*BODY)},
    openapi_extra=takes("SearchMemories"),
)
async def search_memories(given: Given, request: Request, core: CoreDep) -> Response:
    """A user's memories that have these words, best first."""
    body = checked(SearchMemories, given)
    hits = await core.of(request).memories.search(
        body.query,
        user_id=body.user_id,
        top_k=body.top_k,
        session_id=body.session_id,
        metadata=body.metadata,
    )
    return answer({"hits": [{"score": hit.score, "memory": _memory(hit.memory)} for hit in hits]})


@routes.get("", responses={200: {"model": MemoryPage}, **errors()})
async def list_memories(
    user_id: str,
    request: Request,
    core: CoreDep,
    session_id: Annotated[str | None, Query(description="Only from this session.")] = None,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Response:
    """A user's memories, newest first."""
    listing = core.of(request).memories.list(
        user_id=user_id, session_id=session_id, page_size=page_size, page_token=page_token
    )
    page = await listing.page()
    return answer(
        {"memories": [_memory(item) for item in page.memories], "next_page_token": page.next_page_token}
    )


@routes.delete("", responses={200: {"model": Deleted}, **errors()})
async def delete_memories(
    user_id: str, request: Request, core: CoreDep, session_id: str | None = None, memory_id: str | None = None
) -> Response:
    """Remove one memory, a session's, or all of a user's."""
    deleted = await core.of(request).memories.delete(
        user_id=user_id, session_id=session_id, memory_id=memory_id
    )
    return answer({"deleted": deleted})
