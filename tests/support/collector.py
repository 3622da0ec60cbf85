"""An OTLP collector that keeps the data that processes export over HTTP, as dictionaries."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SECONDS = 20


@dataclass(frozen=True, slots=True)
class SeenSpan:
    """A span as it was exported."""

    name: str
    service: str
    trace_id: str
    span_id: str
    parent_id: str  # empty for a root
    kind: int
    error: bool
    attributes: dict[str, Any]
    seconds: float


@dataclass(slots=True)
class Collector:
    """The exported data so far."""

    url: str = ""
    spans: list[SeenSpan] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)

    def environment(self) -> dict[str, str]:
        """Returns the environment of a process that exports to this collector."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
        }

    def trace(self, trace_id: str, enough: Callable[[list[SeenSpan]], bool]) -> list[SeenSpan]:
        """Returns the spans of a trace, once there are enough of them."""
        until = time.monotonic() + SECONDS
        while True:
            found = [span for span in list(self.spans) if span.trace_id == trace_id]
            if enough(found):
                return found
            assert time.monotonic() < until, "\n".join(f"{span.service}: {span.name}" for span in found)
            time.sleep(0.02)


@contextmanager
def running_collector() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                collector.spans += _spans(ExportTraceServiceRequest.FromString(body))
            else:
                collector.metrics |= _metrics(ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _spans(request: ExportTraceServiceRequest) -> list[SeenSpan]:
    return [
        _span(span, _attributes(resource.resource.attributes)["service.name"])
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _span(span: Any, service: str) -> SeenSpan:
    return SeenSpan(
        span.name,
        service,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.status.code == 2,
        _attributes(span.attributes),
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )


def _metrics(request: ExportMetricsServiceRequest) -> set[str]:
    scopes = [scope for resource in request.resource_metrics for scope in resource.scope_metrics]
    return {metric.name for scope in scopes for metric in scope.metrics}


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
