"""Records requests as spans and durations, for all gateways; does nothing when neither is enabled."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from opentelemetry import context, trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import SpanKind
from starlette.types import Message, Receive, Scope, Send

from portico.telemetry.log import log_ids
from portico.telemetry.metrics import meters
from portico.telemetry.tracing import spans

App = Callable[[Scope, Receive, Send], Awaitable[None]]
ROUTE = "portico.route"  # key in an ASGI scope: the route of a request that bypasses the router
# FastAPI would record its own spans and metrics, with its own rules and exporters.
NOT_ITS_OWN: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
PORTS = "/ports/"
_PROBES = frozenset(("/health", "/liveness", "/readiness"))  # periodic probes of no interest
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_OTHER = "_OTHER"
_LABELS = ("http.request.method", "portico.gateway", "http.response.status_code")
_NOBODY = 499  # the caller disconnected before the answer


class RequestTelemetry:
    """Records the requests of one process."""

    def __init__(self, gateways: Iterable[str]) -> None:
        """`gateways` are the names used in the metrics."""
        meter = meters.meter()
        self._durations: meters.Durations | None = None
        self._active = Counter(dict.fromkeys(gateways, 0))
        if meter is not None:
            name = "http.server.request.duration"
            about = "Duration of requests; of streams, until their end."
            self._durations = meters.seconds(meter, name, about, *_LABELS)
            meter.create_observable_gauge(
                "http.server.active_requests", [self._count], "{request}", "Requests in progress."
            )

    @property
    def seen(self) -> bool:
        """Whether spans or metrics are enabled."""
        return self._durations is not None or spans.tracer() is not None

    def _count(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(count, {"portico.gateway": name}) for name, count in list(self._active.items())]

    async def serve(self, app: App, gateway: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the gateway's application and records the request."""
        if scope["path"] in _PROBES:
            await app(scope, receive, send)
            return
        method = _method(scope)
        status = 0

        def noted(message: Message) -> Awaitable[None]:
            nonlocal status
            if not status:
                status = message.get("status", 101 if message["type"] == "websocket.accept" else 0)
            return send(message)

        carrier = {
            name.decode(): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        parent = spans.parent_of(carrier)
        # Each attribute costs as much CPU time as a token; these are the necessary ones.
        about = {"http.request.method": method, "url.path": _path(scope)}
        span = spans.begin(f"{method} {gateway}", about, kind=SpanKind.SERVER, parent=parent)
        token = context.attach(parent if span is None else trace.set_span_in_context(span, parent))
        durations, began = self._durations, time.perf_counter()
        self._active[gateway] += 1
        error = ""
        try:
            await app(scope, receive, noted)
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            context.detach(token)
            self._active[gateway] -= 1
            if durations is not None:
                durations.record(time.perf_counter() - began, method, gateway, status or _NOBODY)
            if span is not None and span.is_recording():
                answered: dict[str, str | int] = {}
                if route := _route(scope):
                    span.update_name(f"{method} {route}")
                    answered["http.route"] = route
                if status:
                    answered["http.response.status_code"] = status
                spans.end(span, error or (str(status) if status >= 500 else ""), answered)


def enter_request(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Sets the request id of the current task from the caller's x-request-id."""
    for name, value in headers:
        if name == b"x-request-id":
            log_ids.request_id.set(log_ids.readable(value.decode("latin-1")))


def _method(scope: Scope) -> str:
    method: str = scope.get("method", "GET")  # a WebSocket handshake is a GET
    return method if method in _METHODS else _OTHER


def _path(scope: Scope) -> str:
    """Returns the path, without the token of a sandbox's port, which is a credential."""
    path: str = scope["path"]
    return PORTS if path.startswith(PORTS) else path


def _route(scope: Scope) -> str:
    """Returns the route that the path matched; empty if unknown."""
    return str(scope.get(ROUTE) or getattr(scope.get("route"), "path", ""))
