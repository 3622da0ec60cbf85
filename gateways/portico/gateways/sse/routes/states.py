"""REST routes for agents' states, with ETag and If-Match."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import Response

from portico.gateways.http.errors import BadRequest
from portico.gateways.sse.event_encoding import embedded
from portico.gateways.sse.json_routes import (
    BODY,
    CoreDep,
    Given,
    PageSize,
    PageToken,
    answer,
    errors,
    json_object,
    seconds,
    takes,
)
from portico.gateways.sse.stored_schemas import Deleted, StateModel, StatePage
from portico.v1 import state_pb2

routes = APIRouter(prefix="/states", tags=["states"])

RoundPath = Annotated[int, Path(ge=1, le=2**53)]
IfMatch = Annotated[str | None, Header(description="The ETag that the stored state must still have.")]
IfNoneMatch = Annotated[str | None, Header(description="* writes only if no state is stored yet.")]
_STATE = takes({"type": "object", "description": "The state: any JSON object."})


def _state(state: state_pb2.State) -> dict[str, Any]:
    return {
        "user_id": state.user_id,
        "session_id": state.session_id,
        "round_id": state.round_id,
        "etag": state.etag,
        "updated_at": seconds(state.updated_time),
        "state": embedded(state.state_json),
    }


def _etag(state: state_pb2.State) -> dict[str, str]:
    return {"etag": f'"{state.etag}"'}


def _expected(if_match: str | None, if_none_match: str | None = None) -> str:
    """Returns the ETag that a save expects; `*`, in the contract, means that nothing is stored."""
    etag = (if_match or "").strip()
    if if_none_match is not None:
        if if_none_match.strip() != "*" or etag:
            raise BadRequest("If-None-Match: must be *, without If-Match", status=400, field="If-None-Match")
        return "*"
    if etag == "*":
        raise BadRequest("If-Match: must be an ETag", status=400, field="If-Match")
    return etag.strip('"')


async def _save(
    core: CoreDep,
    request: Request,
    body: dict[str, Any],
    user_id: str,
    session_id: str,
    round_id: int | None,
    etag: str,
) -> Response:
    state = await core.client_for(request).states.save(
        json_object(body),
        user_id=user_id,
        session_id=session_id,
        round_id=round_id,
        etag=etag,
    )
    return answer(_state(state), 200, _etag(state))


@routes.get("/{user_id}", responses={200: {"model": StatePage}, **errors()})
async def list_states(
    user_id: str,
    request: Request,
    core: CoreDep,
    session_id: Annotated[str | None, Query(description="Only states of one session.")] = None,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Response:
    """Lists a user's rounds by session and round, without their contents."""
    listing = core.client_for(request).states.list(
        user_id=user_id, session_id=session_id, page_size=page_size, page_token=page_token
    )
    page = await listing.page()
    return answer({"states": [_state(item) for item in page.states], "next_page_token": page.next_page_token})


@routes.delete("/{user_id}", responses={200: {"model": Deleted}, **errors()})
async def delete_user_states(user_id: str, request: Request, core: CoreDep) -> Response:
    """Deletes all states of a user."""
    return answer({"deleted": await core.client_for(request).states.delete(user_id=user_id)})


@routes.get("/{user_id}/{session_id}", responses={200: {"model": StateModel}, **errors(404)})
async def get_latest_state(user_id: str, session_id: str, request: Request, core: CoreDep) -> Response:
    """Returns the latest round."""
    state = await core.client_for(request).states.get(user_id=user_id, session_id=session_id)
    return answer(_state(state), 200, _etag(state))


@routes.post(
    "/{user_id}/{session_id}",
    responses={200: {"model": StateModel}, **errors(409, *BODY)},
    openapi_extra=_STATE,
)
async def save_next_state(
    user_id: str,
    session_id: str,
    body: Given,
    request: Request,
    core: CoreDep,
    if_match: IfMatch = None,
) -> Response:
    """Saves a state as the next round. If-Match names the latest round's ETag."""
    return await _save(core, request, body, user_id, session_id, None, _expected(if_match))


@routes.delete("/{user_id}/{session_id}", responses={200: {"model": Deleted}, **errors()})
async def delete_session_states(user_id: str, session_id: str, request: Request, core: CoreDep) -> Response:
    """Deletes a session's rounds, and the state that a framework stores in the session."""
    deleted = await core.client_for(request).states.delete(user_id=user_id, session_id=session_id)
    return answer({"deleted": deleted})


@routes.get("/{user_id}/{session_id}/{round_id}", responses={200: {"model": StateModel}, **errors(404)})
async def get_state(
    user_id: str, session_id: str, round_id: RoundPath, request: Request, core: CoreDep
) -> Response:
    """Returns one round."""
    state = await core.client_for(request).states.get(
        user_id=user_id, session_id=session_id, round_id=round_id
    )
    return answer(_state(state), 200, _etag(state))


@routes.put(
    "/{user_id}/{session_id}/{round_id}",
    responses={200: {"model": StateModel}, **errors(409, *BODY)},
    openapi_extra=_STATE,
)
async def save_state(
    user_id: str,
    session_id: str,
    round_id: RoundPath,
    body: Given,
    request: Request,
    core: CoreDep,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Writes or overwrites a round. If-Match names its ETag."""
    etag = _expected(if_match, if_none_match)
    return await _save(core, request, body, user_id, session_id, round_id, etag)


@routes.delete("/{user_id}/{session_id}/{round_id}", responses={200: {"model": Deleted}, **errors()})
async def delete_state(
    user_id: str, session_id: str, round_id: RoundPath, request: Request, core: CoreDep
) -> Response:
    """Deletes one round."""
    deleted = await core.client_for(request).states.delete(
        user_id=user_id, session_id=session_id, round_id=round_id
    )
    return answer({"deleted": deleted})
