"""Conversations: sessions of the core whose user is the conversation itself."""

from typing import Any
from uuid import uuid4

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from portico.client import JsonText, NotFound, PorticoError
from portico.gateways.openai.errors import OpenAiError, missing, unsupported
from portico.gateways.openai.json_routes import (
    After,
    CoreDep,
    Given,
    Include,
    Limit,
    Order,
    answer,
    client_of,
    item_list,
    takes,
)
from portico.gateways.openai.openapi_errors import errors
from portico.gateways.openai.responses.openapi_schemas import ConversationObject, Deleted, ItemList
from portico.gateways.openai.responses.request.creation import check_include, metadata_text
from portico.gateways.openai.responses.request.input_items import InputItems
from portico.gateways.openai.responses.request.item_references import check_not_stored
from portico.gateways.openai.responses.request.message_items import message_item
from portico.gateways.openai.responses.run_opener import conversation_not_found
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2, session_pb2

routes = APIRouter(prefix="/conversations", tags=["conversations"])


def _conversation(session: session_pb2.Session) -> dict[str, Any]:
    metadata = orjson.loads(session.metadata_json) if session.metadata_json else {}
    return {
        "id": session.session_id,
        "object": "conversation",
        "created_at": session.created_time.seconds,
        "metadata": metadata,
    }


def _metadata(body: dict[str, Any]) -> JsonText | None:
    value = body.get("metadata")
    return None if value is None else JsonText(metadata_text(value))


def _known(body: dict[str, Any], *names: str) -> None:
    for name in body:
        if name not in names:
            raise OpenAiError(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)


def _messages(value: Any) -> tuple[list[pb.Message], dict[str, str]]:
    """Reads items to add. Returns their messages, each with an id, and the ids that the caller chose, with
    their paths.
    """
    read = query_pb2.AgentRequest()
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    items = InputItems(read.input)
    items.read(value, "items")
    if items.references:
        raise unsupported(
            items.references[0][2], "Item references are not supported here; send the item itself."
        )
    for message in read.input:
        message.id = message.id or f"msg_{uuid4().hex}"
        message.status = pb.RUN_STATUS_COMPLETED
    return list(read.input), items.ids


@routes.post(
    "",
    responses={200: {"model": ConversationObject}, **errors(413, 415)},
    openapi_extra=takes("NewConversation"),
)
async def create_conversation(body: Given, request: Request, core: CoreDep) -> Response:
    """Creates a conversation, optionally with items."""
    _known(body, "items", "metadata")
    messages = [] if body.get("items") is None else _messages(body["items"])[0]
    metadata = _metadata(body)
    sessions = client_of(request, core).sessions
    id = f"conv_{uuid4().hex}"
    session = await sessions.create(session_id=id, metadata=metadata)
    if messages:
        try:
            await sessions.append_messages(id, messages)
        except PorticoError:
            await sessions.delete(id)  # its id would be unknown to the caller
            raise
    return answer(_conversation(session), request)


@routes.get("/{conversation_id}", responses={200: {"model": ConversationObject}, **errors(404)})
async def retrieve_conversation(conversation_id: str, request: Request, core: CoreDep) -> Response:
    """Returns one conversation, without its items."""
    sessions = client_of(request, core).sessions
    try:
        session = await sessions.get(conversation_id)
    except NotFound:
        raise conversation_not_found(conversation_id) from None
    return answer(_conversation(session), request)


@routes.post(
    "/{conversation_id}",
    responses={200: {"model": ConversationObject}, **errors(404, 413, 415)},
    openapi_extra=takes("UpdateConversation"),
)
async def update_conversation(conversation_id: str, body: Given, request: Request, core: CoreDep) -> Response:
    """Replaces a conversation's metadata."""
    _known(body, "metadata")
    if "metadata" not in body:
        raise missing("metadata")
    sessions = client_of(request, core).sessions
    try:
        session = await sessions.update(conversation_id, metadata=_metadata(body))
    except NotFound:
        raise conversation_not_found(conversation_id) from None
    return answer(_conversation(session), request)


@routes.delete("/{conversation_id}", responses={200: {"model": Deleted}, **errors(404)})
async def delete_conversation(conversation_id: str, request: Request, core: CoreDep) -> Response:
    """Deletes a conversation and its items; its responses stay."""
    try:
        await client_of(request, core).sessions.delete(conversation_id)
    except NotFound:
        raise conversation_not_found(conversation_id) from None
    told = {"id": conversation_id, "object": "conversation.deleted", "deleted": True}
    return answer(told, request)


@routes.post(
    "/{conversation_id}/items",
    responses={200: {"model": ItemList}, **errors(404, 413, 415)},
    openapi_extra=takes("NewItems"),
)
async def create_items(
    conversation_id: str, body: Given, request: Request, core: CoreDep, include: Include = None
) -> Response:
    """Appends items to a conversation."""
    _known(body, "items", "include")
    if body.get("items") is None:
        raise missing("items")
    if body.get("include") is not None:
        check_include(body["include"])
    messages, given = _messages(body["items"])
    client = client_of(request, core)
    await check_not_stored(client, given, "", conversation_id)
    try:
        added = await client.sessions.append_messages(conversation_id, messages)
    except NotFound:
        raise conversation_not_found(conversation_id) from None
    return answer(item_list([message_item(stored.message) for stored in added], more=False), request)


@routes.get("/{conversation_id}/items", responses={200: {"model": ItemList}, **errors(404)})
async def list_items(
    conversation_id: str,
    request: Request,
    core: CoreDep,
    limit: Limit = 20,
    order: Order = "desc",
    after: After = "",
    include: Include = None,
) -> Response:
    """Lists a conversation's items, oldest or newest first."""
    listing = client_of(request, core).sessions.list_messages(
        conversation_id,
        order="ascending" if order == "asc" else "descending",
        after_message_id=after or None,
        page_size=limit,
    )
    try:
        page = await listing.page()
    except NotFound as error:
        if error.reason == "MESSAGE_NOT_FOUND":
            raise _item_not_found(after, "after") from None
        raise conversation_not_found(conversation_id) from None
    items = [message_item(stored.message) for stored in page.messages]
    return answer(item_list(items, more=bool(page.next_page_token)), request)


@routes.get("/{conversation_id}/items/{item_id}", responses=errors(404))
async def retrieve_item(
    conversation_id: str, item_id: str, request: Request, core: CoreDep, include: Include = None
) -> Response:
    """Returns one item."""
    sessions = client_of(request, core).sessions
    try:
        stored = await sessions.get_message(conversation_id, item_id)
    except NotFound:
        raise _item_not_found(item_id, "item_id") from None
    return answer(message_item(stored.message), request)


@routes.delete(
    "/{conversation_id}/items/{item_id}", responses={200: {"model": ConversationObject}, **errors(404)}
)
async def delete_item(conversation_id: str, item_id: str, request: Request, core: CoreDep) -> Response:
    """Deletes one item; the answer is the conversation."""
    sessions = client_of(request, core).sessions
    try:
        await sessions.delete_message(conversation_id, item_id)
    except NotFound:
        raise _item_not_found(item_id, "item_id") from None
    return answer(_conversation(await sessions.get(conversation_id)), request)


def _item_not_found(id: str, param: str) -> OpenAiError:
    return OpenAiError(f"Item with id '{id}' not found.", status=404, code="item_not_found", param=param)
