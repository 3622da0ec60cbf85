"""The OpenAI gateway's application: hot paths and WebSockets first, then FastAPI's routes."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from portico.client import PorticoError
from portico.gateways.http import rate_limit_headers
from portico.gateways.http.core_connection import CoreConnection
from portico.gateways.http.errors import BadRequest
from portico.gateways.http.rate_limit_headers import add_rate_limit_headers
from portico.gateways.http.request.allowed_methods import allowed
from portico.gateways.http.request.body import Disconnected
from portico.gateways.http.request.query_parameters import check_query
from portico.gateways.http.request.route_parameters import RouteParameters
from portico.gateways.http.request_telemetry import NOT_ITS_OWN, ROUTE
from portico.gateways.http.server.error_barrier import with_error_barrier
from portico.gateways.http.sse_stream import StreamRegistry
from portico.gateways.openai import models
from portico.gateways.openai.chat import endpoint as chat
from portico.gateways.openai.chat.endpoint import Chat
from portico.gateways.openai.errors import (
    OpenAiError,
    error_response,
    error_text,
    from_bad_request,
    from_defect,
    from_status,
    request_id,
)
from portico.gateways.openai.models import Agents
from portico.gateways.openai.openapi_errors import ErrorAnswer
from portico.gateways.openai.rate_headers import EXPOSED, rate_headers
from portico.gateways.openai.responses import create_endpoint
from portico.gateways.openai.responses.create_endpoint import CreateResponse
from portico.gateways.openai.responses.openapi_schemas import ResponseObject
from portico.gateways.openai.responses.run_opener import RunOpener
from portico.gateways.openai.responses.stored import conversation_routes, token_counting
from portico.gateways.openai.responses.stored import response_routes as responses
from portico.gateways.openai.responses.websocket.endpoint import WebSocketEndpoint
from portico.gateways.openai.settings import OpenAiSettings

log = logging.getLogger(__name__)

PREFIXES = ("/v1", "/compatible-mode/v1")
_EXPOSED = [
    "x-request-id",
    "x-run-id",
    "x-session-id",
    "x-should-retry",
    *rate_limit_headers.EXPOSED,
    *EXPOSED,
]


def create_app(settings: OpenAiSettings) -> FastAPI:
    """Builds the FastAPI application, without its front."""
    app = FastAPI(
        telemetry=NOT_ITS_OWN,
        title="Portico",
        description="The agents of one core as models of OpenAI's API.",
        version="1",
        openapi_url=f"{PREFIXES[0]}/openapi.json",
        docs_url=f"{PREFIXES[0]}/docs",
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.streams = StreamRegistry(settings.ping_seconds)
    app.state.max_body_bytes = settings.max_body_bytes
    for prefix in PREFIXES:
        # Routes with a fixed path must precede routes whose path takes any id.
        for module in (token_counting, responses, conversation_routes, models):
            app.include_router(module.routes, prefix=prefix, include_in_schema=prefix == PREFIXES[0])
    _handle_errors(app)
    _document(app)
    return app


class OpenAiGateway:
    """The gateway that serves agents as models of OpenAI's API."""

    name = "openai"

    def __init__(self, settings: OpenAiSettings) -> None:
        self.settings = settings
        self._app = create_app(settings)
        front: ASGIApp = Front(self._app)
        if settings.cors_origins:
            front = CORSMiddleware(
                front,
                allow_origins=settings.cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=_EXPOSED,
            )
        self._front = front

    def claims(self, path: str) -> bool:
        return path.startswith(tuple(f"{prefix}/" for prefix in PREFIXES)) or path in PREFIXES

    def open(self, core: CoreConnection) -> None:
        state = self._app.state
        limit = self.settings.max_body_bytes
        state.core = core
        state.agents = Agents(core)
        state.opener = RunOpener(core, state.agents)
        state.chat = Chat(core, state.streams, state.agents, limit)
        state.create = CreateResponse(core, state.streams, state.opener, limit)
        state.sockets = WebSocketEndpoint(core, state.opener, self.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        add_rate_limit_headers(scope, rate_headers)
        await self._front(scope, receive, send)

    def stop(self) -> None:
        state = self._app.state
        state.streams.stop()
        if hasattr(state, "sockets"):
            state.sockets.stop()


def _handle_errors(app: FastAPI) -> None:
    async def told(request: Request, error: Exception) -> Response:
        id = request_id(request.scope["headers"])
        return error_response(error_text(error, log, id), id)

    async def wrong_shape(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"][1:])
        problem = OpenAiError(f"Invalid '{path}': {first['msg']}.", code="invalid_value", param=path)
        return await told(request, problem)

    async def unrouted(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = {"allow": allowed(app, request.scope)} if error.status_code == 405 else error.headers
        return await told(request, from_status(error.status_code, request.method, request.url.path, headers))

    async def nobody_waits(request: Request, error: Exception) -> Response:
        return Response(status_code=499)

    for kind in (OpenAiError, BadRequest, PorticoError, Exception):
        app.add_exception_handler(kind, told)
    app.add_exception_handler(RequestValidationError, wrong_shape)
    app.add_exception_handler(HTTPException, unrouted)
    app.add_exception_handler(Disconnected, nobody_waits)


def _document(app: FastAPI) -> None:
    """Adds to OpenAPI the routes that bypass FastAPI."""
    generate = app.openapi

    def documented() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            by_hand = {
                **create_endpoint.openapi(f"{PREFIXES[0]}/responses"),
                **chat.openapi(f"{PREFIXES[0]}/chat/completions"),
            }
            schemas = schema["components"]["schemas"]
            for model in (ResponseObject, ErrorAnswer):
                described = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas.update(described.pop("$defs", {}))
                schemas[model.__name__] = described
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            for path in schema["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            schema["paths"] = {**by_hand, **schema["paths"]}
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = documented  # type: ignore[method-assign]


class Front:
    """The part in front of FastAPI: the hot paths, WebSockets, and the handling of uncaught errors."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._responses = frozenset(f"{prefix}/responses" for prefix in PREFIXES)
        self._chat = frozenset(f"{prefix}/chat/completions" for prefix in PREFIXES)
        self._parameters = RouteParameters(app.router.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        state = self._app.state
        if scope["query_string"] and (refusal := self._refusal(scope)):
            if scope["type"] == "websocket":
                await receive()
            await refusal(scope, receive, send)
            return
        if scope["type"] == "websocket":
            if path in self._responses:
                await state.sockets(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        hot = state.create if path in self._responses else state.chat if path in self._chat else None
        if hot is None:
            await with_error_barrier(
                self._app, scope, receive, send, lambda: error_response(from_defect(log))
            )
        elif scope["method"] == "POST":
            scope[ROUTE] = path
            await hot(scope, receive, send)
        else:
            refused = from_status(405, scope["method"], path, {"allow": "POST"})
            await error_response(refused, request_id(scope["headers"]))(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        try:
            if scope["path"] in self._responses or scope["path"] in self._chat:
                check_query(scope["query_string"], {})
            else:
                self._parameters.check(scope)
        except BadRequest as error:
            return error_response(from_bad_request(error), request_id(scope["headers"]))
        return None
