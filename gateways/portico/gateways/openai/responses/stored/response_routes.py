"""The routes of existing responses: /responses/{id} and the paths below it."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.client import FailedPrecondition, NotFound
from portico.gateways.http.core_connection import CoreConnection
from portico.gateways.http.sse_stream import StreamRegistry
from portico.gateways.openai.errors import OpenAiError
from portico.gateways.openai.json_routes import (
    After,
    CoreDep,
    Include,
    Limit,
    Order,
    answer,
    client_of,
    item_list,
    metadata_of,
    page_of,
)
from portico.gateways.openai.openapi_errors import errors
from portico.gateways.openai.responses.openapi_schemas import Deleted, ItemList, ResponseObject
from portico.gateways.openai.responses.request.message_items import message_item
from portico.gateways.openai.responses.request.request_echo import RequestEcho
from portico.gateways.openai.responses.response_ids import run_of
from portico.gateways.openai.responses.stream.event_writer import NEVER
from portico.gateways.openai.responses.stream.replay import replayed, response_not_found
from portico.gateways.openai.responses.stream.sse_rendering import ResponseEvents
from portico.gateways.openai.responses.stream.translator import ResponseTranslator
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

routes = APIRouter(prefix="/responses", tags=["responses"])

_EVENTS = {"text/event-stream": {"schema": {"type": "string"}}}


class ResponseEventStream(Response):
    """An answer that streams the events of a response."""

    media_type = "text/event-stream"

    def __init__(
        self, streams: StreamRegistry, core: CoreConnection, run: query_pb2.Run, rendering: ResponseEvents
    ) -> None:
        super().__init__()
        self._streams = streams
        self._core = core
        self._run = run
        self._rendering = rendering
        self._metadata: dict[str, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = query_pb2.WatchRunRequest(run_id=self._run.response.id)
        stream = self._core.streams.open_watch(watch, metadata=self._metadata)
        await self._streams.send(stream, self._rendering, scope, receive, send)

    def speaking_for(self, metadata: dict[str, str]) -> "ResponseEventStream":
        """Sets the metadata of the calls to the core."""
        self._metadata = metadata
        return self


async def _run(request: Request, core: CoreConnection, response_id: str) -> query_pb2.Run:
    """Returns the run of a response. Raises OpenAiError (404), PorticoError."""
    try:
        return await client_of(request, core).runs.get(run_of(response_id)[0])
    except NotFound:
        raise response_not_found(response_id) from None


def _translator(run: query_pb2.Run, response_id: str, after: int) -> ResponseTranslator:
    echo = RequestEcho(run.request, background=run.background)
    return ResponseTranslator(echo, number=run_of(response_id)[1], after=after)


async def _object(
    request: Request, core: CoreConnection, run: query_pb2.Run, response_id: str
) -> dict[str, Any]:
    translator = _translator(run, response_id, NEVER)
    value = await replayed(core, run, translator, metadata_of(request))
    if value is None:
        raise response_not_found(response_id)
    return value


@routes.get("/{response_id}", responses={200: {"model": ResponseObject, "content": _EVENTS}, **errors(404)})
async def retrieve_response(
    response_id: str,
    request: Request,
    core: CoreDep,
    stream: Annotated[bool, Query(description="Stream the stored events, then new ones.")] = False,
    starting_after: Annotated[
        int | None,
        Query(ge=0, le=2**53, description="With stream: sequence number of the last event received."),
    ] = None,
    include_obfuscation: Annotated[bool, Query(description="Accepted and ignored.")] = False,
    include: Include = None,
) -> Response:
    """Returns a response in its current state, or streams its events."""
    run = await _run(request, core, response_id)
    if not stream:
        if starting_after is not None:
            message = "'starting_after' requires 'stream=true'."
            raise OpenAiError(message, code="invalid_value", param="starting_after")
        return answer(await _object(request, core, run, response_id), request)
    if run_of(response_id)[1] > 1:
        await _object(request, core, run, response_id)  # or it is not there
    metadata = metadata_of(request)
    translator = _translator(run, response_id, -1 if starting_after is None else starting_after)
    rendering = ResponseEvents(translator, metadata["x-request-id"])
    streams: StreamRegistry = request.app.state.streams
    return ResponseEventStream(streams, core, run, rendering).speaking_for(metadata)


@routes.delete("/{response_id}", responses={200: {"model": Deleted}, **errors(404, 409)})
async def delete_response(response_id: str, request: Request, core: CoreDep) -> Response:
    """Deletes a response that has ended, together with its run and all responses of that run."""
    run = await _run(request, core, response_id)
    if run_of(response_id)[1] > 1:
        await _object(request, core, run, response_id)  # or it is not there
    client = client_of(request, core)
    if run.response.status == pb.RUN_STATUS_INPUT_REQUIRED:
        # The response has ended, but its run waits for an answer that will not come.
        await client.runs.cancel(run.response.id)
    await client.runs.delete(run.response.id)
    return answer({"id": response_id, "object": "response", "deleted": True}, request)


@routes.post("/{response_id}/cancel", responses={200: {"model": ResponseObject}, **errors(400, 404)})
async def cancel_response(response_id: str, request: Request, core: CoreDep) -> Response:
    """Cancels a background response. The answer arrives when it has ended; cancelling again has no effect."""
    run = await _run(request, core, response_id)
    if not run.background:
        message = "Only responses that were created with 'background': true can be cancelled."
        raise OpenAiError(message, code="invalid_request", param="response_id")
    if run_of(response_id)[1] > 1:
        await _object(request, core, run, response_id)  # or it is not there
    client = client_of(request, core)
    try:
        run = await client.runs.cancel(run.response.id)
    except FailedPrecondition:
        pass  # it has already ended; the answer shows how
    run = await client.runs.get(run.response.id)
    return answer(await _object(request, core, run, response_id), request)


@routes.get("/{response_id}/input_items", responses={200: {"model": ItemList}, **errors(404)})
async def list_input_items(
    response_id: str,
    request: Request,
    core: CoreDep,
    limit: Limit = 20,
    order: Order = "desc",
    after: After = "",
    include: Include = None,
) -> Response:
    """Lists the input items of a response, without earlier items of its conversation."""
    run = await _run(request, core, response_id)
    messages: list[pb.Message] = list(run.request.input)
    if run_of(response_id)[1] > 1:
        translator = _translator(run, response_id, NEVER)
        await replayed(core, run, translator, metadata_of(request))
        if translator.wanted is None:
            raise response_not_found(response_id)
        messages = translator.wanted.input
    label = run.response.agent_name
    items = [message_item(message, label) for message in messages]
    if not items:
        return answer(item_list([], more=False), request)
    return answer(page_of(items, after=after, limit=limit, order=order), request)
