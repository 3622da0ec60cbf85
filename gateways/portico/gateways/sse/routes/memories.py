"""REST routes for memories."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.responses import Response

from portico.client.convert import to_timestamp
from portico.gateways.http.request.body_fields import dump, load
from portico.gateways.sse.event_encoding import embedded
from portico.gateways.sse.json_routes import (
    BODY,
    CoreDep,
    Given,
    PageSize,
    PageToken,
    answer,
    checked,
    errors,
    json_object,
    seconds,
    takes,
)
from portico.gateways.sse.stored_schemas import (
    AddMemories,
    Deleted,
    MemoriesAdded,
    MemoryHits,
    MemoryModel,
    MemoryPage,
    MemoryUpdate,
    MetadataFilter,
    NewMemory,
    SearchMemories,
)
from portico.v1 import memory_pb2

FILTER_CHARACTERS = 8192
Filter = Annotated[
    str | None,
    Query(
        max_length=FILTER_CHARACTERS,
        description="A MetadataFilter as JSON; selects memories by their metadata.",
    ),
]

routes = APIRouter(prefix="/memories", tags=["memories"])


def _memory(memory: memory_pb2.Memory) -> dict[str, Any]:
    return {
        "memory_id": memory.memory_id,
        "user_id": memory.user_id,
        "session_id": memory.session_id,
        "text": memory.text,
        "metadata": embedded(memory.metadata_json),
        "key": memory.key,
        "created_at": seconds(memory.created_time),
        "updated_at": seconds(memory.updated_time),
        "expires_at": seconds(memory.expire_time) if memory.HasField("expire_time") else None,
    }


def _new(item: NewMemory, field: str) -> memory_pb2.Memory:
    return memory_pb2.Memory(
        text=item.text,
        session_id=item.session_id,
        metadata_json=dump(item.metadata, f"{field}.metadata") if item.metadata else "",
        key=item.key,
        created_time=_moment(item.created_at),
        expire_time=_moment(item.expires_at),
    )


def _moment(at: float | None) -> Timestamp | None:
    return None if at is None else to_timestamp(datetime.fromtimestamp(at, UTC))


def _chosen(text: str | None) -> dict[str, Any] | None:
    """Parses the filter in a query parameter. Raises BadRequest."""
    return None if text is None else checked(MetadataFilter, load(text)).model_dump()


@routes.post(
    "",
    status_code=201,
    responses={201: {"model": MemoriesAdded}, **errors(*BODY)},
    openapi_extra=takes("AddMemories"),
)
async def add_memories(given: Given, request: Request, core: CoreDep) -> Response:
    """Stores memories and indexes them for search."""
    body = checked(AddMemories, given)
    memories = [_new(item, f"memories[{index}]") for index, item in enumerate(body.memories)]
    added = await core.client_for(request).memories.add(memories, user_id=body.user_id)
    return answer({"memories": [_memory(item) for item in added]}, 201)


@routes.post(
    "/search",
    responses={200: {"model": MemoryHits}, **errors(*BODY)},
    openapi_extra=takes("SearchMemories"),
)
async def search_memories(given: Given, request: Request, core: CoreDep) -> Response:
    """Searches a user's memories by words, best match first."""
    body = checked(SearchMemories, given)
    hits = await core.client_for(request).memories.search(
        body.query,
        user_id=body.user_id,
        top_k=body.top_k,
        session_id=body.session_id,
        metadata=body.metadata,
        filter=None if body.filter is None else body.filter.model_dump(),
    )
    return answer({"hits": [{"score": hit.score, "memory": _memory(hit.memory)} for hit in hits]})


@routes.get("", responses={200: {"model": MemoryPage}, **errors()})
async def list_memories(
    user_id: str,
    request: Request,
    core: CoreDep,
    session_id: Annotated[str | None, Query(description="Only memories of one session.")] = None,
    filter: Filter = None,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Response:
    """Lists a user's memories, newest first."""
    listing = core.client_for(request).memories.list(
        user_id=user_id,
        session_id=session_id,
        filter=_chosen(filter),
        page_size=page_size,
        page_token=page_token,
    )
    page = await listing.page()
    return answer(
        {"memories": [_memory(item) for item in page.memories], "next_page_token": page.next_page_token}
    )


@routes.get("/{user_id}", responses={200: {"model": MemoryModel}, **errors(404)})
async def get_memory_by_key(user_id: str, key: str, request: Request, core: CoreDep) -> Response:
    """Returns the memory with this key."""
    return answer(_memory(await core.client_for(request).memories.get(key=key, user_id=user_id)))


@routes.get("/{user_id}/{memory_id}", responses={200: {"model": MemoryModel}, **errors(404)})
async def get_memory(user_id: str, memory_id: str, request: Request, core: CoreDep) -> Response:
    """Returns one memory."""
    return answer(_memory(await core.client_for(request).memories.get(memory_id, user_id=user_id)))


@routes.patch(
    "/{user_id}/{memory_id}",
    responses={200: {"model": MemoryModel}, **errors(404, *BODY)},
    openapi_extra=takes("MemoryUpdate"),
)
async def update_memory(
    user_id: str, memory_id: str, given: Given, request: Request, core: CoreDep
) -> Response:
    """Replaces fields of a memory; omitted fields stay unchanged."""
    body = checked(MemoryUpdate, given)
    changes: dict[str, Any] = body.model_dump(include=body.model_fields_set)
    if "metadata" in changes:
        changes["metadata"] = json_object(body.metadata)
    if "expires_at" in changes:
        at = changes.pop("expires_at")
        changes["expire_time"] = None if at is None else datetime.fromtimestamp(at, UTC)
    return answer(
        _memory(await core.client_for(request).memories.update(memory_id, user_id=user_id, **changes))
    )


@routes.delete("", responses={200: {"model": Deleted}, **errors()})
async def delete_memories(
    user_id: str,
    request: Request,
    core: CoreDep,
    session_id: str | None = None,
    memory_id: str | None = None,
    key: str | None = None,
    filter: Filter = None,
) -> Response:
    """Deletes one memory, a session's, those that a filter selects, or all of a user's."""
    deleted = await core.client_for(request).memories.delete(
        user_id=user_id, session_id=session_id, memory_id=memory_id, key=key, filter=_chosen(filter)
    )
    return answer({"deleted": deleted})
