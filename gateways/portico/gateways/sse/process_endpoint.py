"""POST /process: starts a run and streams it. This hot path bypasses FastAPI."""

import logging
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.client import PorticoError
from portico.gateways.http.core_connection import CoreConnection, caller_metadata
from portico.gateways.http.errors import BadRequest
from portico.gateways.http.request.body import Disconnected, read_json_body
from portico.gateways.http.request.body_fields import load
from portico.gateways.http.sse_stream import StreamRegistry, id_headers
from portico.gateways.sse.errors import from_bad_request, from_core, from_defect
from portico.gateways.sse.event_encoding import dumps
from portico.gateways.sse.json_routes import ERROR_TEXTS
from portico.gateways.sse.request_decoding import query_request, wants_stream
from portico.gateways.sse.sse_rendering import AgentEvents, LastResponse

log = logging.getLogger(__name__)


class ProcessEndpoint:
    """The ASGI application of POST /process."""

    def __init__(self, core: CoreConnection, streams: StreamRegistry, max_body_bytes: int) -> None:
        self._core = core
        self._streams = streams
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = load(await read_json_body(scope, receive, self._max_body_bytes))
            query = query_request(body)
            key, accept = _negotiation(scope)
            if key and not query.idempotency_key:
                query.idempotency_key = key
            streaming = wants_stream(body) and accept
            stream = self._core.streams.open_query(query, metadata=caller_metadata(scope["headers"]))
            if streaming:
                await self._streams.send(stream, AgentEvents(), scope, receive, send)
                return
            last = LastResponse()
            await self._streams.whole(stream, receive, last.take)
            value = last.json()
            answer = Response(dumps(value), 200, None, "application/json")
            answer.raw_headers += id_headers(value["id"], value["session_id"])
            await answer(scope, receive, send)
        except BadRequest as error:
            await from_bad_request(error)(scope, receive, send)
        except PorticoError as error:
            await from_core(error)(scope, receive, send)
        except Disconnected:
            pass  # the caller has disconnected
        except Exception:
            await from_defect(log)(scope, receive, send)


def _negotiation(scope: Scope) -> tuple[str, bool]:
    """Returns the idempotency key, and whether the caller accepts a stream."""
    key, accept = "", True
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            key = value.decode("latin-1")
        elif name == b"accept":
            # A caller that accepts more than JSON accepts a stream.
            accept = b"application/json" not in value or b"text/event-stream" in value or b"*/*" in value
    return key, accept


def openapi(path: str) -> dict[str, Any]:
    """Returns the OpenAPI description of the route."""
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
    return {
        path: {
            "post": {
                "tags": ["runs"],
                "summary": "Start a run and stream its events",
                "description": (
                    "Server-Sent Events of the run's log: `id:` is the sequence number, `data:` an event "
                    "of the agent protocol. With `stream: false`, or `Accept: application/json`, one JSON "
                    "object: the run's last response, even if it failed. Resume an interrupted stream with "
                    "`GET /runs/{run_id}/events`."
                ),
                "operationId": "process",
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
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/StartRun"}}},
                },
                "responses": {
                    "200": {
                        "description": "The events, or the last response",
                        "headers": {
                            "X-Run-Id": {"description": "The run's id.", "schema": {"type": "string"}},
                            "X-Session-Id": {
                                "description": "The session's id, if it is printable ASCII.",
                                "schema": {"type": "string"},
                            },
                        },
                        "content": {
                            "text/event-stream": {},
                            "application/json": {"schema": {"$ref": "#/components/schemas/RunResponse"}},
                        },
                    },
                    **{
                        str(status): {"description": ERROR_TEXTS[status], "content": error}
                        for status in (400, 404, 409, 413, 415, 422, 429, 500, 503, 504)
                    },
                },
            }
        }
    }
