"""The SSE gateway's application: POST /process first, then FastAPI's routes, then the agents' own
endpoints.
"""

import logging
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError, ValidationException, WebSocketRequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from portico.client import PorticoError
from portico.gateways.http.core_connection import CoreConnection
from portico.gateways.http.errors import BadRequest
from portico.gateways.http.rate_limit_headers import EXPOSED
from portico.gateways.http.request.allowed_methods import allowed
from portico.gateways.http.request.body import Disconnected
from portico.gateways.http.request.query_parameters import check_query
from portico.gateways.http.request.route_parameters import RouteParameters
from portico.gateways.http.request_telemetry import NOT_ITS_OWN, PORTS, ROUTE
from portico.gateways.http.server.error_barrier import with_error_barrier
from portico.gateways.http.sse_stream import StreamRegistry
from portico.gateways.sse.errors import error_response, from_bad_request, from_core, from_defect, from_status
from portico.gateways.sse.json_routes import CoreDep, answer, errors, field_path
from portico.gateways.sse.ports.header_filter import PortHeaders
from portico.gateways.sse.ports.port_proxy import PortProxy
from portico.gateways.sse.ports.proxy_limits import PortLimits
from portico.gateways.sse.process_endpoint import ProcessEndpoint, openapi
from portico.gateways.sse.routes import agents, memories, runs, sessions, states, users
from portico.gateways.sse.routes.agent_endpoints import AgentEndpoints
from portico.gateways.sse.run_schemas import Health, Liveness, Readiness, ServiceInfo
from portico.gateways.sse.sandbox import file_routes, sandbox_routes, snapshot_routes, terminals
from portico.gateways.sse.settings import SseSettings
from portico.gateways.sse.stored_schemas import NAMED_BY_HAND

log = logging.getLogger(__name__)

SERVICE = "Portico"
HEALTH_SECONDS = 2.0


def create_app(settings: SseSettings) -> FastAPI:
    """Builds the FastAPI application, without its front."""
    app = FastAPI(
        telemetry=NOT_ITS_OWN,
        title=SERVICE,
        description="Runs, sessions, state, memory and sandboxes of the agents of one core, over HTTP.",
        version="1",
        separate_input_output_schemas=False,
        # A path with a trailing slash is a different path, and the public URL for a redirect is unknown
        # behind proxies.
        redirect_slashes=False,
    )
    app.state.streams = StreamRegistry(settings.ping_seconds)
    app.state.max_body_bytes = settings.max_body_bytes
    app.include_router(_service(settings))
    app.include_router(runs.task_routes(settings.process_path))
    for module in (
        runs,
        sessions,
        states,
        memories,
        agents,
        sandbox_routes,
        file_routes,
        snapshot_routes,
        terminals,
        users,
    ):
        app.include_router(module.routes)
    _handle_errors(app)
    _document(app, settings.process_path)
    return app


class SseGateway:
    """The gateway that serves runs as Server-Sent Events, and REST."""

    name = "sse"

    def __init__(self, settings: SseSettings) -> None:
        self.settings = settings
        self._app = create_app(settings)
        self._max_body_bytes = settings.max_body_bytes
        front: ASGIApp = Front(self._app, settings.process_path)
        if settings.cors_origins:
            front = CORSMiddleware(
                front,
                allow_origins=settings.cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["x-run-id", "x-session-id", "etag", "location", "content-range", *EXPOSED],
            )
        self._front = front
        self._port_limits = PortLimits(
            answer_seconds=settings.port_answer_seconds,
            idle_seconds=settings.port_idle_seconds,
            message_bytes=settings.port_message_bytes,
            headers=PortHeaders(settings.port_request_headers, settings.port_response_headers),
            origins=tuple(settings.cors_origins),
        )

    def claims(self, path: str) -> bool:
        return True  # any path may be an agent's own endpoint

    def open(self, core: CoreConnection) -> None:
        state = self._app.state
        state.core = core
        state.process = ProcessEndpoint(core, state.streams, self._max_body_bytes)
        state.endpoints = AgentEndpoints(core, self._max_body_bytes)
        self._ports = PortProxy(core, self._port_limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(PORTS):
            await self._ports(scope, receive, send)
        else:
            await self._front(scope, receive, send)

    def stop(self) -> None:
        self._app.state.streams.stop()
        self._ports.stop()


def _service(settings: SseSettings) -> APIRouter:
    routes = APIRouter(tags=["service"])
    path = settings.process_path

    @routes.get("/", responses={200: {"model": ServiceInfo}})
    async def service_info() -> Response:
        """Service root: lists the endpoints."""
        endpoints = {
            "process": path,
            "task": f"{path}/task",
            "task_status": f"{path}/task/{{task_id}}",
            "runs": "/runs",
            "events": "/runs/{run_id}/events",
            "health": "/health",
            "docs": "/docs",
        }
        return answer({"service": SERVICE, "mode": "gateway", "endpoints": endpoints})

    @routes.get("/health", responses={200: {"model": Health}})
    async def health(core: CoreDep) -> Response:
        """Health check: this process answers; `runner` says whether the core serves."""
        ready = await _healthy(core)
        runner = "ready" if ready else "unavailable"
        return answer({"status": "healthy", "mode": "gateway", "runner": runner})

    @routes.get("/readiness", responses={200: {"model": Readiness}, 503: errors()[503]})
    async def readiness(core: CoreDep) -> Response:
        """Readiness check: this process answers and the core serves."""
        if await _healthy(core):
            return answer({"status": "ready"})
        return error_response(503, "UNAVAILABLE", "the core is not serving")

    @routes.get("/liveness", responses={200: {"model": Liveness}})
    async def liveness() -> Response:
        """Liveness check: this process answers."""
        return answer({"status": "alive"})

    return routes


async def _healthy(core: CoreConnection) -> bool:
    # Probes have short timeouts of their own, a few seconds.
    try:
        return await core.client.with_options(timeout=HEALTH_SECONDS).healthy()
    except PorticoError:
        return False


def _handle_errors(app: FastAPI) -> None:
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, BadRequest)
        return from_bad_request(error)

    async def core_refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, PorticoError)
        return from_core(error)

    def misshapen(error: ValidationException) -> Response:
        first = error.errors()[0]
        path = field_path(first["loc"][1:])
        return error_response(422, "INVALID_ARGUMENT", f"{path}: {first['msg']}", {"field": path})

    async def wrong_shape(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return misshapen(error)

    async def wrong_handshake(socket: WebSocket, error: Exception) -> None:
        assert isinstance(error, WebSocketRequestValidationError)
        await socket.send_denial_response(misshapen(error))

    async def unrouted(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            endpoints: AgentEndpoints = request.app.state.endpoints
            try:
                return await endpoints.call(request)
            except BadRequest as bad:
                return from_bad_request(bad)
            except PorticoError as failed:
                return from_core(failed)
            except Disconnected:
                return await nobody_waits(request, error)
        if error.status_code == 405:
            return from_status(405, {"allow": allowed(app, request.scope)})
        return from_status(error.status_code, error.headers)

    async def nobody_waits(request: Request, error: Exception) -> Response:
        return Response(status_code=499)

    async def defect(request: Request, error: Exception) -> Response:
        return from_defect(log)

    app.add_exception_handler(BadRequest, refused)
    app.add_exception_handler(PorticoError, core_refused)
    app.add_exception_handler(RequestValidationError, wrong_shape)
    app.add_exception_handler(WebSocketRequestValidationError, wrong_handshake)
    app.add_exception_handler(HTTPException, unrouted)
    app.add_exception_handler(Disconnected, nobody_waits)
    app.add_exception_handler(Exception, defect)


def _document(app: FastAPI, process_path: str) -> None:
    """Adds to OpenAPI the route that bypasses FastAPI, and the schemas that no route's model names."""
    generate = app.openapi

    def documented() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            schema["paths"] = {**openapi(process_path), **schema["paths"]}
            schemas = schema["components"]["schemas"]
            for model in NAMED_BY_HAND:
                told = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas.update(told.pop("$defs", {}))
                schemas[model.__name__] = told
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = documented  # type: ignore[method-assign]


class Front:
    """The part in front of FastAPI: the hot path, and the handling of uncaught errors.

    It runs outside FastAPI's middleware, which would cost as much as all other work for a request.
    """

    def __init__(self, app: FastAPI, process_path: str) -> None:
        self._app = app
        self._process_path = process_path
        self._parameters = RouteParameters(app.router.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"] and (refusal := self._refusal(scope)):
            if scope["type"] == "websocket":
                await receive()
            await refusal(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == self._process_path:
            scope[ROUTE] = self._process_path
            if scope["method"] == "POST":
                process: ProcessEndpoint = self._app.state.process
                await process(scope, receive, send)
                return
            await from_status(405, {"allow": "POST"})(scope, receive, send)
            return
        await with_error_barrier(self._app, scope, receive, send, lambda: from_defect(log))

    def _refusal(self, scope: Scope) -> Response | None:
        try:
            if scope["path"] == self._process_path:
                check_query(scope["query_string"], {})
            else:
                self._parameters.check(scope)
        except BadRequest as error:
            return from_bad_request(error)
        return None
