"""REST for runs: start, list, get, follow, cancel, interrupt, resume, delete."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.gateways.http.core_connection import caller_metadata
from portico.gateways.http.errors import BadRequest
from portico.gateways.http.sse_stream import TERMINAL, Streams
from portico.gateways.sse.event_encoding import STATUS, response_json
from portico.gateways.sse.json_routes import (
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
from portico.gateways.sse.request_decoding import query_request, read_required_input, wants_stream
from portico.gateways.sse.run_schemas import (
    Asked,
    Interrupted,
    RunModel,
    RunPage,
    Status,
    TaskStatus,
    TaskSubmitted,
)
from portico.gateways.sse.sse_rendering import AgentEvents
from portico.v1 import events_pb2, query_pb2

_BACKGROUND = "background"
_EVENTS: dict[str, Any] = {"text/event-stream": {}}
Moment = Annotated[float | None, Query(ge=0, le=1e11, description="Seconds since 1970.")]


def run_json(run: query_pb2.Run) -> dict[str, Any]:
    """The run's response, and what the core knows beside it."""
    return {
        **response_json(run.response),
        "user_id": run.response.user_id,
        "agent": run.response.agent_name,
        "background": run.background,
        "last_sequence_number": run.last_sequence_number,
        "updated_at": seconds(run.updated_time),
    }


class EventStream(Response):
    """An answer that is a run's events."""

    media_type = "text/event-stream"

    def __init__(self, send_events: Callable[[Scope, Receive, Send], Any], status_code: int = 200) -> None:
        super().__init__(status_code=status_code)
        self._send_events = send_events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._send_events(scope, receive, send)


def follow(request: Request, core: CoreDep, run_id: str, after: int | None) -> EventStream:
    """The events of a run beyond a cursor."""
    streams: Streams = request.app.state.streams
    watch = query_pb2.WatchRunRequest(run_id=run_id, after_sequence_number=after)

    async def send_events(scope: Scope, receive: Receive, send: Send) -> None:
        stream = core.streams.open_watch(watch, metadata=caller_metadata(scope["headers"]))
        await streams.send(stream, AgentEvents(), scope, receive, send)

    return EventStream(send_events)


routes = APIRouter(tags=["runs"])


@routes.post(
    "/runs",
    status_code=201,
    responses={201: {"model": RunModel}, **errors(404, 409, 429, *BODY)},
    openapi_extra=takes("StartRun"),
)
async def start_run(body: Given, request: Request, core: CoreDep) -> Response:
    """Start a run in the background."""
    run = await core.of(request).runs.start(_query(body, request))
    return answer(run_json(run), 201, {"location": f"/runs/{run.response.id}"})


@routes.get("/runs", responses={200: {"model": RunPage}, **errors()})
async def list_runs(
    request: Request,
    core: CoreDep,
    agent: str = "",
    user_id: str | None = None,
    session_id: str | None = None,
    status: Annotated[list[Status] | None, Query(description="Any of these.")] = None,
    created_from: Moment = None,
    created_until: Moment = None,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Response:
    """Runs, newest first, without their messages."""
    page = (
        await core.of(request)
        .runs.list(
            agent=agent,
            user_id=user_id,
            session_id=session_id,
            statuses=status or (),
            created_from=_moment(created_from),
            created_until=_moment(created_until),
            page_size=page_size,
            page_token=page_token,
        )
        .page()
    )
    return answer({"runs": [run_json(run) for run in page.runs], "next_page_token": page.next_page_token})


@routes.get("/runs/{run_id}", responses={200: {"model": RunModel}, **errors(404)})
async def get_run(run_id: str, request: Request, core: CoreDep) -> Response:
    """One run as it stands."""
    return answer(run_json(await core.of(request).runs.get(run_id)))


@routes.delete("/runs/{run_id}", status_code=204, responses=errors(404, 409))
async def delete_run(run_id: str, request: Request, core: CoreDep) -> Response:
    """Remove an ended run and its log."""
    await core.of(request).runs.delete(run_id)
    return Response(status_code=204)


@routes.get(
    "/runs/{run_id}/events",
    response_class=Response,  # no media type of its own: errors are JSON
    responses={200: {"content": _EVENTS}, **errors(404, 416)},
)
async def run_events(
    run_id: str,
    request: Request,
    core: CoreDep,
    after: Annotated[int | None, Query(ge=0, le=2**53, description="The last event you have.")] = None,
    last_event_id: Annotated[str | None, Header(description="The same; it wins.")] = None,
) -> Response:
    """A run's events from a cursor: what is there, then what comes."""
    return follow(request, core, run_id, _cursor(after, last_event_id))


@routes.post("/runs/{run_id}/cancel", responses={200: {"model": RunModel}, **errors(404, 409)})
async def cancel_run(run_id: str, request: Request, core: CoreDep) -> Response:
    """Stop a run; the answer comes when it has stopped."""
    return answer(run_json(await core.of(request).runs.cancel(run_id)))


@routes.post("/runs/{run_id}/interrupt", responses={200: {"model": RunModel}, **errors(404, 409)})
async def interrupt_run(run_id: str, request: Request, core: CoreDep) -> Response:
    """Ask a run's agent to stop where it is; the answer comes when it has."""
    return answer(run_json(await core.of(request).runs.interrupt(run_id)))


@routes.post(
    "/sessions/{user_id}/{session_id}/interrupt",
    responses={200: {"model": Interrupted}, **errors(409)},
)
async def interrupt_session(user_id: str, session_id: str, request: Request, core: CoreDep) -> Response:
    """Interrupt what is live in a session."""
    runs = await core.of(request).runs.interrupt_session(user_id=user_id, session_id=session_id)
    return answer({"runs": [run_json(run) for run in runs]})


@routes.post(
    "/runs/{run_id}/resume",
    responses={200: {"model": RunModel, "content": _EVENTS}, **errors(404, 409, *BODY)},
    openapi_extra=takes("Answer"),
)
async def resume_run(run_id: str, body: Given, request: Request, core: CoreDep) -> Response:
    """Answer a run that waits for input. With Accept: text/event-stream its events follow."""
    answered = query_pb2.ResumeRunRequest()
    read_required_input(body, "input", answered.input)
    question = checked(Asked, body).input_request_id
    run = await core.of(request).runs.resume(run_id, list(answered.input), input_request_id=question)
    if "text/event-stream" in request.headers.get("accept", ""):
        return follow(request, core, run_id, run.last_sequence_number)
    return answer(run_json(run))


@routes.post(
    "/runs/{run_id}/steer",
    status_code=204,
    responses=errors(404, 409, 429, *BODY),
    openapi_extra=takes("Told"),
)
async def steer_run(run_id: str, body: Given, request: Request, core: CoreDep) -> Response:
    """Tell an agent more while it works. Its events say when it has taken that in."""
    told = query_pb2.SteerRunRequest()
    read_required_input(body, "input", told.input)
    await core.of(request).runs.steer(run_id, list(told.input))
    return Response(status_code=204)


def task_routes(process_path: str) -> APIRouter:
    """The reference's routes for runs in the background; they hang below the process path."""
    routes = APIRouter(tags=["runs"])

    @routes.post(
        f"{process_path}/task",
        responses={200: {"model": TaskSubmitted}, **errors(404, 409, 429, *BODY)},
        openapi_extra=takes("StartRun"),
    )
    async def start_task(body: Given, request: Request, core: CoreDep) -> Response:
        """Start a run in the background, in the reference's words."""
        run = await core.of(request).runs.start(_query(body, request))
        return answer(
            {
                "task_id": run.response.id,
                "status": "submitted",
                "queue": _BACKGROUND,
                "message": f"The run goes on in the background; ask {process_path}/task/{run.response.id}",
            }
        )

    @routes.get(f"{process_path}/task/{{task_id}}", responses={200: {"model": TaskStatus}, **errors(404)})
    async def get_task(task_id: str, request: Request, core: CoreDep) -> Response:
        """Where such a run stands; the result is its response."""
        run = await core.of(request).runs.get(task_id)
        return answer({"status": _task_status(run.response), "result": _task_result(run.response)})

    return routes


def _query(body: dict[str, Any], request: Request) -> query_pb2.QueryRequest:
    wants_stream(body)  # it means nothing here, and must be in order all the same
    query = query_request(body)
    key = request.headers.get("idempotency-key", "")
    if key and not query.idempotency_key:
        query.idempotency_key = key
    return query


def _moment(value: float | None) -> datetime | None:
    return None if value is None else datetime.fromtimestamp(value, UTC)


def _cursor(after: int | None, last_event_id: str | None) -> int | None:
    if last_event_id is None or last_event_id == "":
        return after
    if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 15:
        raise BadRequest("Last-Event-ID: must be the id of an event", status=400, field="Last-Event-ID")
    return int(last_event_id)


def _task_status(response: events_pb2.Response) -> str:
    if response.status == events_pb2.RUN_STATUS_COMPLETED:
        return "finished"
    if response.status in TERMINAL:
        return "error"
    return "pending" if STATUS[response.status] in ("created", "queued") else "running"


def _task_result(response: events_pb2.Response) -> dict[str, Any] | None:
    return response_json(response) if response.status in TERMINAL else None
