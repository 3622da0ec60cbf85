"""REST routes for checkpoints, snapshots, forks and ports of sandboxes."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from portico.gateways.sse.json_routes import BODY, CoreDep, Given, answer, checked, seconds, takes
from portico.gateways.sse.sandbox import sandbox_schemas as models
from portico.gateways.sse.sandbox.sandbox_encoding import sandbox_json
from portico.gateways.sse.sandbox.sandbox_routes import failures

Port = Annotated[int, Path(ge=1, le=65535)]

routes = APIRouter(prefix="/sandboxes", tags=["sandboxes"])


@routes.post(
    "/{sandbox_id}/ports/{port}",
    status_code=201,
    responses={201: {"model": models.PortModel}, **failures(*BODY)},
    openapi_extra=takes("PortRequest"),
)
async def open_port(sandbox_id: str, port: Port, given: Given, request: Request, core: CoreDep) -> Response:
    """Issues a signed path that gives anyone access to an HTTP server in the sandbox, for a limited time."""
    body = checked(models.PortRequest, given)
    sandboxes = core.client_for(request).sandboxes
    access = await sandboxes.create_port_access(sandbox_id, port, lifetime=body.lifetime)
    told = {"path": f"/ports/{access.access_token}/", "access_token": access.access_token}
    return answer({**told, "expires_at": seconds(access.expire_time)}, 201)


@routes.post(
    "/{sandbox_id}/checkpoints",
    status_code=204,
    responses=failures(*BODY),
    openapi_extra=takes("CheckpointModel"),
)
async def create_checkpoint(sandbox_id: str, given: Given, request: Request, core: CoreDep) -> Response:
    """Saves the current state of the Python kernel."""
    body = checked(models.CheckpointModel, given)
    await core.client_for(request).sandboxes.create_checkpoint(sandbox_id, body.name)
    return Response(status_code=204)


@routes.post(
    "/{sandbox_id}/rollback",
    responses={200: {"model": models.RolledBack}, **failures(*BODY)},
    openapi_extra=takes("RollBack"),
)
async def roll_back(sandbox_id: str, given: Given, request: Request, core: CoreDep) -> Response:
    """Restores a checkpoint or a snapshot."""
    body = checked(models.RollBack, given)
    restored = await core.client_for(request).sandboxes.roll_back(
        sandbox_id, checkpoint=body.checkpoint, snapshot_id=body.snapshot_id
    )
    return answer({"kernel_restored": restored})


@routes.post(
    "/{sandbox_id}/snapshots",
    status_code=201,
    responses={201: {"model": models.SnapshotModel}, **failures()},
)
async def create_snapshot(sandbox_id: str, request: Request, core: CoreDep) -> Response:
    """Saves the files of the workspace."""
    taken = await core.client_for(request).sandboxes.create_snapshot(sandbox_id)
    told = {"snapshot_id": taken.snapshot_id, "size_bytes": taken.size_bytes, "kernel": taken.kernel}
    return answer(told, 201)


@routes.post(
    "/{sandbox_id}/fork",
    status_code=201,
    responses={201: {"model": models.SandboxModel}, **failures(*BODY)},
    openapi_extra=takes("ForkSandbox"),
)
async def fork_sandbox(sandbox_id: str, given: Given, request: Request, core: CoreDep) -> Response:
    """Creates a sandbox with the files of this one, or of a snapshot if the id is a snapshot's."""
    body = checked(models.ForkSandbox, given)
    sandboxes = core.client_for(request).sandboxes
    if sandbox_id.startswith("snap_"):
        made = await sandboxes.fork(snapshot_id=sandbox_id, session_id=body.session_id)
    else:
        made = await sandboxes.fork(sandbox_id=sandbox_id, session_id=body.session_id)
    return answer(sandbox_json(made), 201)


@routes.delete("/snapshots/{snapshot_id}", status_code=204, responses=failures())
async def delete_snapshot(snapshot_id: str, request: Request, core: CoreDep) -> Response:
    """Deletes a snapshot."""
    await core.client_for(request).sandboxes.delete_snapshot(snapshot_id)
    return Response(status_code=204)
