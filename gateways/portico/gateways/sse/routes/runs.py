"""REST routes for runs: start, list, get, follow, cancel, interrupt, resume, steer, delete."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.client.run_status import TERMINAL_STATUSES, RunStatusName
from portico.gateways.http.core_connection import caller_metadata
from portico.gateways.http.errors import BadRequest
from portico.gateways.http.sse_stream import StreamRegistry
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
    TaskStatus,
    TaskSubmitted,
)
from portico.gateways.sse.sse_rendering import AgentEvents
from portico.v1 import events_pb2, query_pb2

_BACKGROUND = "background"
_EVENTS: dict[str, Any] = {"text/event-stream": {}}
Moment = Annotated[float | None, Query(ge=0, le=1e11, description="Seconds since 1970.")]


def run_json(run: query_pb2.Run) -> dict[str, Any]:
    """Returns the JSON of a run: its response, and the core's other data about it."""
    return {
        **response_json(run.response),
        "user_id": run.response.user_id,
        "agent": run.response.agent_name,
        "background": run.background,
        "last_sequence_number": run.last_sequence_number,
        "updated_at": seconds(run.updated_time),
    }


class RunEventStream(Response):
    """An answer that streams a run's events."""

    media_type = "text/event-stream"

    def __init__(self, send_events: Callable[[Scope, Receive, Send], Any], status_code: int = 200) -> None:
        super().__init__(status_code=status_code)
        self._send_events = send_events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._send_events(scope, receive, send)


def follow(request: Request, core: CoreDep, run_id: str, after: int | None) -> RunEventStream:
    """Streams the events of a run after a cursor."""
    streams: StreamRegistry = request.app.state.streams
    watch = query_pb2.WatchRunRequest(run_id=run_id, after_sequence_number=after)

    async def send_events(scope: Scope, receive: Receive, send: Send) -> None:
        stream = core.streams.open_watch(watch, metadata=caller_metadata(scope["headers"]))
        await streams.send(stream, AgentEvents(), scope, receive, send)

    return RunEventStream(send_events)


routes = APIRouter(tags=["runs"])


@routes.post(
    "/runs",
    status_code=201,
    responses={201: {"model": RunModel}, **errors(404, 409, 429, *BODY)},
    openapi_extra=takes("StartRun"),
)
async def start_run(body: Given, request: Request, core: CoreDep) -> Response:
    """Starts a run in the background."""
    run = await core.client_for(request).runs.start(_query(body, request))
    return answer(run_json(run), 201, {"location": f"/runs/{run.response.id}"})


@routes.get("/runs", responses={200: {"model": RunPage}, **errors()})
async def list_runs(
    request: Request,
    core: CoreDep,
    agent: str = "",
    user_id: str | None = None,
    session_id: str | None = None,
    status: Annotated[
        list[RunStatusName] | None, Query(description="Runs with any of these statuses.")
    ] = None,
    created_from: Moment = None,
    created_until: Moment = None,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Response:
    """Lists runs without their messages, newest first."""
    page = (
        await core.client_for(request)
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
    """Returns one run in its current state."""
    return answer(run_json(await core.client_for(request).runs.get(run_id)))


@routes.delete("/runs/{run_id}", status_code=204, responses=errors(404, 409))
async def delete_run(run_id: str, request: Request, core: CoreDep) -> Response:
    """Deletes an ended run and its log."""
    await core.client_for(request).runs.delete(run_id)
    return Response(status_code=204)


@routes.get(
    "/runs/{run_id}/events",
    response_class=Response,  # no default media type, since errors are JSON
    responses={200: {"content": _EVENTS}, **errors(404, 416)},
)
async def run_events(
    run_id: str,
    request: Request,
    core: CoreDep,
    after: Annotated[
        int | None, Query(ge=0, le=2**53, description="Sequence number of the last event received.")
    ] = None,
    last_event_id: Annotated[str | None, Header(description="Like after, and takes precedence.")] = None,
) -> Response:
    """Streams a run's events after a cursor: stored events first, then new ones."""
    return follow(request, core, run_id, _cursor(after, last_event_id))


@routes.post("/runs/{run_id}/cancel", responses={200: {"model": RunModel}, **errors(404, 409)})
async def cancel_run(run_id: str, request: Request, core: CoreDep) -> Response:
    """Cancels a run; the answer arrives when the run has ended."""
    return answer(run_json(await core.client_for(request).runs.cancel(run_id)))


@routes.post("/runs/{run_id}/interrupt", responses={200: {"model": RunModel}, **errors(404, 409)})
async def interrupt_run(run_id: str, request: Request, core: CoreDep) -> Response:
    """Interrupts a run's agent; the answer arrives when the agent has stopped."""
    return answer(run_json(await core.client_for(request).runs.interrupt(run_id)))


@routes.post(
    "/sessions/{user_id}/{session_id}/interrupt",
    responses={200: {"model": Interrupted}, **errors(409)},
)
async def interrupt_session(user_id: str, session_id: str, request: Request, core: CoreDep) -> Response:
    """Interrupts all live runs of a session."""
    runs = await core.client_for(request).runs.interrupt_session(user_id=user_id, session_id=session_id)
    return answer({"runs": [run_json(run) for run in runs]})


@routes.post(
    "/runs/{run_id}/resume",
    responses={200: {"model": RunModel, "content": _EVENTS}, **errors(404, 409, *BODY)},
    openapi_extra=takes("Answer"),
)
async def resume_run(run_id: str, body: Given, request: Request, core: CoreDep) -> Response:
    """Sends input to a run that is waiting for it. With Accept: text/event-stream, the answer is the stream
    of the events that follow.
    """
    answered = query_pb2.ResumeRunRequest()
    read_required_input(body, "input", answered.input)
    question = checked(Asked, body).input_request_id
    run = await core.client_for(request).runs.resume(run_id, list(answered.input), input_request_id=question)
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
    """Sends more input to an agent while it is executing. An event of the run reports when the agent has read
    it.
    """
    told = query_pb2.SteerRunRequest()
    read_required_input(body, "input", told.input)
    await core.client_for(request).runs.steer(run_id, list(told.input))
    return Response(status_code=204)


def task_routes(process_path: str) -> APIRouter:
    """Returns AgentScope Runtime's routes for background runs, below the process path."""
    routes = APIRouter(tags=["runs"])

    @routes.post(
        f"{process_path}/task",
        responses={200: {"model": TaskSubmitted}, **errors(404, 409, 429, *BODY)},
        openapi_extra=takes("StartRun"),
    )
    async def start_task(body: Given, request: Request, core: CoreDep) -> Response:
        """Starts a run in the background, in AgentScope Runtime's format."""
        run = await core.client_for(request).runs.start(_query(body, request))
        return answer(
            {
                "task_id": run.response.id,
                "status": "submitted",
                "queue": _BACKGROUND,
                "message": f"The run continues in the background; poll {process_path}/task/{run.response.id}",
            }
        )

    @routes.get(f"{process_path}/task/{{task_id}}", responses={200: {"model": TaskStatus}, **errors(404)})
    async def get_task(task_id: str, request: Request, core: CoreDep) -> Response:
        """Returns the state of a background run; after its end, the result is its response."""
        run = await core.client_for(request).runs.get(task_id)
        return answer({"status": _task_status(run.response), "result": _task_result(run.response)})

    return routes


def _query(body: dict[str, Any], request: Request) -> query_pb2.QueryRequest:
    wants_stream(body)  # without effect here, but still validated
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
        raise BadRequest(
            "Last-Event-ID: must be the sequence number of an event", status=400, field="Last-Event-ID"
        )
    return int(last_event_id)


def _task_status(response: events_pb2.Response) -> str:
    if response.status == events_pb2.RUN_STATUS_COMPLETED:
        return "finished"
    if response.status in TERMINAL_STATUSES:
        return "error"
    return "pending" if STATUS[response.status] in ("created", "queued") else "running"


def _task_result(response: events_pb2.Response) -> dict[str, Any] | None:
    return response_json(response) if response.status in TERMINAL_STATUSES else None
