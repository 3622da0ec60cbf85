"""REST route for users: deletes all data of a user."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from portico.gateways.sse.json_routes import CoreDep, answer, errors
from portico.gateways.sse.stored_schemas import Forgotten

routes = APIRouter(prefix="/users", tags=["users"])


@routes.delete("/{user_id}", responses={200: {"model": Forgotten}, **errors()})
async def forget_user(user_id: str, request: Request, core: CoreDep) -> Response:
    """Permanently deletes all data of a user and returns the number of items of each kind. It may take
    long.
    """
    told = await core.client_for(request).identity.forget_user(user_id)
    return answer({field.name: getattr(told, field.name) for field in told.DESCRIPTOR.fields})
