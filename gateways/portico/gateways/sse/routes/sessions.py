"""REST routes for sessions and their messages."""

from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from portico.gateways.sse.event_encoding import embedded, message_json
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
from portico.gateways.sse.request_decoding import read_required_input
from portico.gateways.sse.stored_schemas import (
    Appended,
    MessagePage,
    RoleName,
    SessionCreate,
    SessionHits,
    SessionModel,
    SessionPage,
    SessionUpdate,
    StoredMessageModel,
    TypeName,
)
from portico.v1 import session_pb2

routes = APIRouter(tags=["sessions"])


def _session(session: session_pb2.Session) -> dict[str, Any]:
    return {
        "user_id": session.user_id,
        "session_id": session.session_id,
        "created_at": seconds(session.created_time),
        "updated_at": seconds(session.updated_time),
        "message_count": session.message_count,
        "metadata": embedded(session.metadata_json),
    }


def _message(stored: session_pb2.SessionMessage) -> dict[str, Any]:
    return {
        "position": stored.position,
        "created_at": seconds(stored.created_time),
        "run_id": stored.run_id,
        "message": message_json(stored.message),
    }


def _highlight(highlight: session_pb2.Highlight) -> dict[str, Any]:
    ranges = [{"start": part.start, "end": part.end} for part in highlight.ranges]
    return {"text": highlight.text, "ranges": ranges}


@routes.post(
    "/sessions",
    status_code=201,
    responses={201: {"model": SessionModel}, **errors(409, *BODY)},
    openapi_extra=takes("SessionCreate"),
)
async def create_session(given: Given, request: Request, core: CoreDep) -> Response:
    """Creates an empty session."""
    body = checked(SessionCreate, given)
    session = await core.client_for(request).sessions.create(
        user_id=body.user_id, session_id=body.session_id, metadata=json_object(body.metadata)
    )
    path = f"/sessions/{quote(session.user_id, safe='')}/{quote(session.session_id, safe='')}"
    return answer(_session(session), 201, {"location": path})


@routes.get("/sessions", responses={200: {"model": SessionPage}, **errors()})
async def list_sessions(
    user_id: str, request: Request, core: CoreDep, page_size: PageSize = 0, page_token: PageToken = ""
) -> Response:
    """Lists a user's sessions, the last used first."""
    listing = core.client_for(request).sessions.list(
        user_id=user_id, page_size=page_size, page_token=page_token
    )
    page = await listing.page()
    return answer(
        {"sessions": [_session(item) for item in page.sessions], "next_page_token": page.next_page_token}
    )


@routes.get("/sessions/search", responses={200: {"model": SessionHits}, **errors()})
async def search_sessions(
    user_id: str,
    query: str,
    request: Request,
    core: CoreDep,
    session_id: Annotated[str | None, Query(description="Only messages of one session.")] = None,
    role: Annotated[list[RoleName], Query(description="Only messages with these roles.")] = [],  # noqa: B006
    type: Annotated[list[TypeName], Query(description="Only messages of these types.")] = [],  # noqa: B006
    highlight: Annotated[bool, Query(description="Whether hits include highlights.")] = False,
    top_k: Annotated[int, Query(ge=1, le=100)] = 10,
) -> Response:
    """Searches the messages of all of a user's sessions by words, best match first."""
    hits = await core.client_for(request).sessions.search(
        query,
        user_id=user_id,
        session_id=session_id,
        roles=role,
        types=type,
        highlight=highlight,
        top_k=top_k,
    )
    return answer(
        {
            "hits": [
                {
                    "session_id": hit.session_id,
                    "score": hit.score,
                    "message": _message(hit.message),
                    "highlights": [_highlight(highlight) for highlight in hit.highlights],
                }
                for hit in hits
            ]
        }
    )


@routes.get("/sessions/{user_id}/{session_id}", responses={200: {"model": SessionModel}, **errors(404)})
async def get_session(user_id: str, session_id: str, request: Request, core: CoreDep) -> Response:
    """Returns one session, without its messages."""
    return answer(_session(await core.client_for(request).sessions.get(session_id, user_id=user_id)))


@routes.patch(
    "/sessions/{user_id}/{session_id}",
    responses={200: {"model": SessionModel}, **errors(404, *BODY)},
    openapi_extra=takes("SessionUpdate"),
)
async def update_session(
    user_id: str, session_id: str, given: Given, request: Request, core: CoreDep
) -> Response:
    """Replaces a session's metadata."""
    metadata = json_object(checked(SessionUpdate, given).metadata)
    sessions = core.client_for(request).sessions
    return answer(_session(await sessions.update(session_id, user_id=user_id, metadata=metadata)))


@routes.delete("/sessions/{user_id}/{session_id}", status_code=204, responses=errors(404))
async def delete_session(user_id: str, session_id: str, request: Request, core: CoreDep) -> Response:
    """Deletes a session and its messages; its runs stay."""
    await core.client_for(request).sessions.delete(session_id, user_id=user_id)
    return Response(status_code=204)


@routes.get(
    "/sessions/{user_id}/{session_id}/messages", responses={200: {"model": MessagePage}, **errors(404)}
)
async def list_messages(
    user_id: str,
    session_id: str,
    request: Request,
    core: CoreDep,
    order: Literal["ascending", "descending"] = "ascending",
    after_message_id: Annotated[str | None, Query(description="Start after this message.")] = None,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Response:
    """Lists a session's messages, oldest or newest first."""
    listing = core.client_for(request).sessions.list_messages(
        session_id,
        user_id=user_id,
        order=order,
        after_message_id=after_message_id,
        page_size=page_size,
        page_token=page_token,
    )
    page = await listing.page()
    return answer(
        {"messages": [_message(item) for item in page.messages], "next_page_token": page.next_page_token}
    )


@routes.get(
    "/sessions/{user_id}/{session_id}/messages/{message_id}",
    responses={200: {"model": StoredMessageModel}, **errors(404)},
)
async def get_message(
    user_id: str, session_id: str, message_id: str, request: Request, core: CoreDep
) -> Response:
    """Returns one message."""
    sessions = core.client_for(request).sessions
    return answer(_message(await sessions.get_message(session_id, message_id, user_id=user_id)))


@routes.delete(
    "/sessions/{user_id}/{session_id}/messages/{message_id}", status_code=204, responses=errors(404)
)
async def delete_message(
    user_id: str, session_id: str, message_id: str, request: Request, core: CoreDep
) -> Response:
    """Deletes one message."""
    await core.client_for(request).sessions.delete_message(session_id, message_id, user_id=user_id)
    return Response(status_code=204)


@routes.post(
    "/sessions/{user_id}/{session_id}/messages",
    status_code=201,
    responses={201: {"model": Appended}, **errors(404, *BODY)},
    openapi_extra=takes("AppendMessages"),
)
async def append_messages(
    user_id: str, session_id: str, body: Given, request: Request, core: CoreDep
) -> Response:
    """Appends messages to a session; messages whose id is already there are skipped."""
    read = session_pb2.AppendMessagesRequest()
    read_required_input(body, "messages", read.messages)
    stored = await core.client_for(request).sessions.append_messages(
        session_id, list(read.messages), user_id=user_id
    )
    return answer({"messages": [_message(item) for item in stored]}, 201)
