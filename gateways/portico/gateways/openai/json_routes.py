"""Shared parts of the routes: bodies are parsed by hand, answers written without models, lists paged by
cursor.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

from portico.client import Client
from portico.gateways.http.core_connection import CoreConnection, caller_metadata, core_connection_of
from portico.gateways.http.request.body import read_json_body
from portico.gateways.openai.errors import OpenAiError, request_id
from portico.gateways.openai.json_depth import load
from portico.gateways.openai.responses.stream.event_writer import dumps

CoreDep = Annotated[CoreConnection, Depends(core_connection_of)]
Limit = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]
After = Annotated[str, Query(description="The id of the last item of the previous page.")]
Include = Annotated[
    list[str] | SkipJsonSchema[None], Query(alias="include[]", description="Accepted and ignored.")
]


async def _given(request: Request) -> dict[str, Any]:
    limit: int = request.app.state.max_body_bytes
    return load(await read_json_body(request.scope, request.receive, limit))


Given = Annotated[dict[str, Any], Depends(_given)]


def metadata_of(request: Request) -> dict[str, str]:
    """Returns the caller's metadata for calls to the core, with a request id."""
    headers = request.scope["headers"]
    metadata = caller_metadata(headers)
    metadata.setdefault("x-request-id", _id_of(request))
    return metadata


def client_of(request: Request, core: CoreConnection) -> Client:
    """Returns a client that makes calls with the caller's credential and a request id."""
    return core.client.with_options(metadata=metadata_of(request))


def answer(value: Any, request: Request) -> Response:
    """Returns a JSON answer with the request's id."""
    return Response(dumps(value), 200, {"x-request-id": _id_of(request)}, "application/json")


def _id_of(request: Request) -> str:
    if not hasattr(request.state, "request_id"):
        request.state.request_id = request_id(request.scope["headers"])
    id: str = request.state.request_id
    return id


def item_list(items: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """Returns the JSON of a page."""
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else "",
        "last_id": items[-1]["id"] if items else "",
        "has_more": more,
    }


def page_of(items: Sequence[dict[str, Any]], *, after: str, limit: int, order: Order) -> dict[str, Any]:
    """Returns one page of `items`, which must be ordered oldest first. Raises OpenAiError (404) for an
    unknown `after`.
    """
    ordered = list(items) if order == "asc" else list(reversed(items))
    start = 0
    if after:
        places = [index for index, item in enumerate(ordered) if item["id"] == after]
        if not places:
            message = f"Item with id '{after}' not found."
            raise OpenAiError(message, status=404, code="item_not_found", param="after")
        start = places[0] + 1
    return item_list(ordered[start : start + limit], more=len(ordered) > start + limit)


def takes(name: str, description: str = "") -> dict[str, Any]:
    """Returns the OpenAPI of a route's body."""
    schema = {"type": "object", "title": name, "description": description}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
