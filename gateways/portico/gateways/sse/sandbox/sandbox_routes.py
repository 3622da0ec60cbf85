"""REST routes for sandboxes: their life cycle, and running code in them. Files are in file_routes.py."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from portico.client import JsonText
from portico.client.sandboxes.code import to_command
from portico.gateways.http.request.body import cancel_on_disconnect
from portico.gateways.http.request.body_fields import dump
from portico.gateways.sse.json_routes import (
    BODY,
    CoreDep,
    Given,
    PageSize,
    PageToken,
    answer,
    checked,
    errors,
    takes,
)
from portico.gateways.sse.sandbox import sandbox_schemas as models
from portico.gateways.sse.sandbox.event_streams import stream, wants_stream, whole
from portico.gateways.sse.sandbox.sandbox_encoding import (
    SandboxEventEncoder,
    metrics_json,
    process_json,
    sandbox_json,
    snapshot_json,
    spec_of,
)

routes = APIRouter(prefix="/sandboxes", tags=["sandboxes"])

_SSE: dict[str, Any] = {"content": {"text/event-stream": {}}}

Pid = Annotated[int, Path(ge=1, lt=2**31)]


def failures(*more: int) -> dict[int | str, dict[str, Any]]:
    """Returns the error answers that all sandbox routes share, and `more`, for OpenAPI."""
    return errors(404, 409, 429, 501, *more)


@routes.post(
    "",
    status_code=201,
    responses={201: {"model": models.SandboxModel}, **failures(*BODY)},
    openapi_extra=takes("CreateSandbox"),
)
async def create_sandbox(given: Given, request: Request, core: CoreDep) -> Response:
    """Returns the session's sandbox, and creates it if there is none."""
    body = checked(models.CreateSandbox, given)
    made = await core.client_for(request).sandboxes.create(
        spec_of(body.spec),
        session_id=body.session_id,
        user_id=body.user_id,
        fresh=body.fresh,
        idempotency_key=body.idempotency_key or request.headers.get("idempotency-key", ""),
    )
    return answer(sandbox_json(made), 201, {"location": f"/sandboxes/{made.sandbox_id}"})


@routes.get("", responses={200: {"model": models.SandboxPage}, **errors()})
async def list_sandboxes(
    request: Request,
    core: CoreDep,
    user_id: str | None = None,
    session_id: str | None = None,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Response:
    """Lists sandboxes, newest first."""
    page = (
        await core.client_for(request)
        .sandboxes.list(user_id=user_id, session_id=session_id, page_size=page_size, page_token=page_token)
        .page()
    )
    return answer(
        {"sandboxes": [sandbox_json(one) for one in page.sandboxes], "next_page_token": page.next_page_token}
    )


@routes.get("/snapshots", responses={200: {"model": models.SnapshotPage}, **errors()})
async def list_snapshots(
    request: Request,
    core: CoreDep,
    user_id: str | None = None,
    session_id: str | None = None,
    sandbox_id: str | None = None,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Response:
    """Lists snapshots, newest first."""
    page = (
        await core.client_for(request)
        .sandboxes.list_snapshots(
            user_id=user_id,
            session_id=session_id,
            sandbox_id=sandbox_id,
            page_size=page_size,
            page_token=page_token,
        )
        .page()
    )
    return answer(
        {
            "snapshots": [snapshot_json(one) for one in page.snapshots],
            "next_page_token": page.next_page_token,
        }
    )


@routes.get("/{sandbox_id}", responses={200: {"model": models.SandboxModel}, **failures()})
async def get_sandbox(sandbox_id: str, request: Request, core: CoreDep) -> Response:
    """Returns one sandbox."""
    return answer(sandbox_json(await core.client_for(request).sandboxes.get(sandbox_id)))


@routes.delete("/{sandbox_id}", status_code=204, responses=failures())
async def delete_sandbox(sandbox_id: str, request: Request, core: CoreDep) -> Response:
    """Ends all processes of a sandbox and deletes it."""
    await core.client_for(request).sandboxes.delete(sandbox_id)
    return Response(status_code=204)


@routes.post("/{sandbox_id}/touch", responses={200: {"model": models.SandboxModel}, **failures()})
async def touch_sandbox(sandbox_id: str, request: Request, core: CoreDep) -> Response:
    """Restarts the idle timeout."""
    return answer(sandbox_json(await core.client_for(request).sandboxes.touch(sandbox_id)))


@routes.post("/{sandbox_id}/pause", status_code=204, responses=failures())
async def pause_sandbox(sandbox_id: str, request: Request, core: CoreDep) -> Response:
    """Suspends all processes of a sandbox."""
    await core.client_for(request).sandboxes.pause(sandbox_id)
    return Response(status_code=204)


@routes.post("/{sandbox_id}/resume", status_code=204, responses=failures())
async def resume_sandbox(sandbox_id: str, request: Request, core: CoreDep) -> Response:
    """Resumes a paused sandbox."""
    await core.client_for(request).sandboxes.resume(sandbox_id)
    return Response(status_code=204)


@routes.get("/{sandbox_id}/metrics", responses={200: {"model": models.MetricsModel}, **failures()})
async def sandbox_metrics(sandbox_id: str, request: Request, core: CoreDep) -> Response:
    """Returns the resources that a sandbox uses."""
    return answer(metrics_json(await core.client_for(request).sandboxes.metrics(sandbox_id)))


@routes.post(
    "/{sandbox_id}/cells",
    responses={200: {"model": models.CellModel, **_SSE}, **failures(*BODY)},
    openapi_extra=takes("RunCell"),
)
async def run_cell(sandbox_id: str, given: Given, request: Request, core: CoreDep) -> Response:
    """Runs Python code in the sandbox's kernel, which keeps names between calls. A stream has the events
    stdout, stderr and rich, and end as the last.
    """
    body = checked(models.RunCell, given)
    items = core.client_for(request).sandboxes.run_cell(sandbox_id, body.code, timeout=body.timeout)
    if wants_stream(request, body.stream):
        return await stream(request, items, SandboxEventEncoder().told)
    return await whole(request, items, rich=True)


@routes.post(
    "/{sandbox_id}/commands",
    responses={200: {"model": models.CommandModel, **_SSE}, **failures(*BODY)},
    openapi_extra=takes("RunCommand"),
)
async def run_command(sandbox_id: str, given: Given, request: Request, core: CoreDep) -> Response:
    """Runs a command to its end. A stream has the events stdout and stderr, and end as the last."""
    body = checked(models.RunCommand, given)
    items = core.client_for(request).sandboxes.run_command(
        sandbox_id,
        to_command(body.command, body.cwd, body.env),
        stdin=body.stdin.encode(),
        timeout=body.timeout,
    )
    if wants_stream(request, body.stream):
        return await stream(request, items, SandboxEventEncoder().told)
    return await whole(request, items, rich=False)


@routes.post(
    "/{sandbox_id}/processes",
    status_code=201,
    responses={201: {"model": models.ProcessModel}, **failures(*BODY)},
    openapi_extra=takes("StartProcess"),
)
async def start_process(sandbox_id: str, given: Given, request: Request, core: CoreDep) -> Response:
    """Starts a command in the background."""
    body = checked(models.StartProcess, given)
    command = to_command(body.command, body.cwd, body.env)
    started = await core.client_for(request).sandboxes.start_process(sandbox_id, command, stdin=body.stdin)
    return answer(process_json(started), 201)


@routes.get("/{sandbox_id}/processes", responses={200: {"model": models.ProcessList}, **failures()})
async def list_processes(sandbox_id: str, request: Request, core: CoreDep) -> Response:
    """Lists the processes started by calls, including those that ended last."""
    processes = await core.client_for(request).sandboxes.list_processes(sandbox_id)
    return answer({"processes": [process_json(process) for process in processes]})


@routes.get("/{sandbox_id}/processes/{pid}/output", responses={200: _SSE, **failures()})
async def watch_process(
    sandbox_id: str,
    pid: Pid,
    request: Request,
    core: CoreDep,
    offset: Annotated[int, Query(ge=0, lt=2**63, description="Byte offset in the output to start from.")] = 0,
) -> Response:
    """Streams a process's output to its end: stdout, stderr, lost, end."""
    items = core.client_for(request).sandboxes.watch_process(sandbox_id, pid, offset=offset)
    return await stream(request, items, SandboxEventEncoder().told)


@routes.post(
    "/{sandbox_id}/processes/{pid}/input",
    status_code=204,
    responses=failures(*BODY),
    openapi_extra=takes("ProcessInput"),
)
async def write_process(sandbox_id: str, pid: Pid, given: Given, request: Request, core: CoreDep) -> Response:
    """Writes to a process's standard input."""
    body = checked(models.ProcessInput, given)
    await core.client_for(request).sandboxes.write_process(sandbox_id, pid, body.data.encode(), eof=body.eof)
    return Response(status_code=204)


@routes.post(
    "/{sandbox_id}/processes/{pid}/signal",
    status_code=204,
    responses=failures(*BODY),
    openapi_extra=takes("ProcessSignal"),
)
async def signal_process(
    sandbox_id: str, pid: Pid, given: Given, request: Request, core: CoreDep
) -> Response:
    """Sends a signal to a process and its descendants."""
    body = checked(models.ProcessSignal, given)
    await core.client_for(request).sandboxes.signal_process(sandbox_id, pid, body.signal)
    return Response(status_code=204)


@routes.get("/{sandbox_id}/tools", responses={200: {"model": models.ToolList}, **failures()})
async def list_tools(sandbox_id: str, request: Request, core: CoreDep) -> Response:
    """Lists the sandbox's tools, with JSON Schemas of their arguments."""
    tools = await core.client_for(request).sandboxes.list_tools(sandbox_id)
    return answer(
        {
            "tools": [
                {
                    "name": tool.name,
                    "group": tool.group,
                    "description": tool.description,
                    "parameters": orjson.loads(tool.schema_json),
                }
                for tool in tools
            ]
        }
    )


@routes.post(
    "/{sandbox_id}/tools/{name}",
    responses={
        200: {"content": {"application/json": {"schema": {"type": "object"}}}},
        **failures(*BODY),
    },
    openapi_extra=takes({"type": "object"}),
)
async def call_tool(sandbox_id: str, name: str, given: Given, request: Request, core: CoreDep) -> Response:
    """Calls a tool; the answer is an MCP tool result, whose isError says whether it failed."""
    work = core.client_for(request).sandboxes.call_tool(sandbox_id, name, JsonText(dump(given)))
    result = await cancel_on_disconnect(request.receive, work)
    return Response(result, 200, None, "application/json")
