"""POST /responses: starts a run, or answers one that waits for input, and returns the response. This is the
hot path.
"""

import logging
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.client import PorticoError
from portico.client.run_status import ACTIVE_STATUSES
from portico.gateways.http.core_connection import CoreConnection, caller_metadata, idempotency_key
from portico.gateways.http.request.body import Disconnected, cancel_on_disconnect, read_json_body
from portico.gateways.http.sse_stream import Frames, StreamRegistry, id_headers
from portico.gateways.openai.errors import error_response, error_text, request_id
from portico.gateways.openai.json_depth import load
from portico.gateways.openai.models import COMPATIBLE
from portico.gateways.openai.openapi_errors import errors_by_hand
from portico.gateways.openai.responses.request.creation import Creation, body_schema, read_creation
from portico.gateways.openai.responses.response_ids import run_of
from portico.gateways.openai.responses.run_opener import RunOpener, RunPlan
from portico.gateways.openai.responses.stream.event_writer import NEVER, EventWriter, dumps
from portico.gateways.openai.responses.stream.replay import replay
from portico.gateways.openai.responses.stream.response_builder import ResponseBuilder
from portico.gateways.openai.responses.stream.sse_rendering import ResponseEvents
from portico.gateways.openai.responses.stream.translator import ResponseTranslator
from portico.v1 import events_pb2 as pb

log = logging.getLogger(__name__)


class CreateResponse:
    """The ASGI application of POST on both of its paths."""

    def __init__(
        self, core: CoreConnection, streams: StreamRegistry, opener: RunOpener, max_body_bytes: int
    ) -> None:
        self._core = core
        self._streams = streams
        self._opener = opener
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        id = request_id(scope["headers"])
        try:
            creation = read_creation(load(await read_json_body(scope, receive, self._max_body_bytes)))
            metadata = {**caller_metadata(scope["headers"]), "x-request-id": id}
            creation.query.idempotency_key = idempotency_key(scope["headers"])
            compatible = scope["path"].startswith(COMPATIBLE)
            plan = await self._opener.plan(creation, metadata, compatible=compatible)
            if creation.stream:
                stream = self._opener.open(plan, metadata)
                translator = plan.translator()
                await self._streams.send(stream, ResponseEvents(translator, id), scope, receive, send)
                self._opener.forget(plan, translator, metadata)
                return
            value = await self._object(plan, metadata, creation, receive)
            answer = Response(dumps(value), 200, {"x-request-id": id}, "application/json")
            answer.raw_headers += id_headers(run_of(value["id"])[0], "")
            await answer(scope, receive, send)
        except Disconnected:
            pass  # the caller has disconnected
        except Exception as error:
            await error_response(error_text(error, log, id), id)(scope, receive, send)

    async def _object(
        self, plan: RunPlan, metadata: Mapping[str, str], creation: Creation, receive: Receive
    ) -> dict[str, Any]:
        if creation.query.background:
            return await cancel_on_disconnect(receive, self._started(plan, metadata))
        return await self._whole(plan, metadata, receive)

    async def _started(self, plan: RunPlan, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Returns the response in its state right after the start."""
        client = self._core.client.with_options(metadata=metadata)
        run = plan.run
        if run is None:
            run = await client.runs.start(plan.query)
            if run.response.status in ACTIVE_STATUSES:
                segment = ResponseBuilder(1, run.response, plan.echo, EventWriter([], NEVER), None)
                if run.response.status == pb.RUN_STATUS_IN_PROGRESS:
                    segment.in_progress()
                return segment.json()
        run = await client.runs.get(run.response.id)
        translator = plan.translator(NEVER)
        return await replay(self._core, run, translator, metadata)

    async def _whole(self, plan: RunPlan, metadata: Mapping[str, str], receive: Receive) -> dict[str, Any]:
        translator = plan.translator(NEVER)
        stream = self._opener.open(plan, metadata)
        await self._streams.whole(stream, receive, lambda frames: _take(translator, frames))
        self._opener.forget(plan, translator, metadata)
        value = translator.json()
        if value is None:
            raise PorticoError("the log contains no response")
        return value


def _take(translator: ResponseTranslator, frames: Frames) -> bool:
    translator.add_frames(frames)
    return translator.done


def openapi(path: str) -> dict[str, Any]:
    """Returns the OpenAPI description of the route."""
    answer = {"$ref": "#/components/schemas/ResponseObject"}
    return {
        path: {
            "post": {
                "tags": ["responses"],
                "summary": "Run an agent",
                "description": (
                    "OpenAI's Responses API; `model` names the agent. With `stream: true`, Server-Sent "
                    "Events, ended by `data: [DONE]`; with `background: true`, the response right "
                    "after its start; otherwise the response once it has ended."
                ),
                "operationId": "create_response",
                "parameters": [
                    {
                        "name": "Idempotency-Key",
                        "in": "header",
                        "required": False,
                        "description": "A repeated request with the same key returns the first run.",
                        "schema": {"type": "string", "maxLength": 256},
                    }
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["input"],
                                "properties": body_schema(),
                                "additionalProperties": False,
                            }
                        }
                    },
                },
                "responses": {
                    "200": {
                        "description": "The response, or its events",
                        "content": {
                            "application/json": {"schema": answer},
                            "text/event-stream": {"schema": {"type": "string"}},
                        },
                    },
                    **errors_by_hand(400, 401, 403, 404, 409, 413, 415, 429, 500, 503, 504),
                },
            }
        }
    }
