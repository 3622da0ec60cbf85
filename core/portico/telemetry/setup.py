"""Sets up OpenTelemetry's SDK from its standard environment variables; imports it only if they require it.

Spans and metrics are exported if an OTLP endpoint is set (OTEL_EXPORTER_OTLP_ENDPOINT, or _TRACES_ENDPOINT
and _METRICS_ENDPOINT) or an exporter is named (OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER: otlp, console or
none). An existing tracer provider, set by `opentelemetry-instrument` or an agent's file, is used as it is.
"""

import os
import threading
import time
from collections.abc import Mapping, MutableMapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from opentelemetry import metrics, trace

from portico.process import secrets
from portico.telemetry.metrics import meters
from portico.telemetry.tracing import spans

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource

    from portico.telemetry.metrics.metric_readers import DurationReader

SCOPE = "portico"
CLOSE_SECONDS = 1.0  # longest delay of a process's end by an unreachable collector
# Variables that may contain a collector's credentials; each may name a file instead, with _FILE appended.
_SECRETS = (
    *(f"OTEL_EXPORTER_OTLP_{kind}HEADERS" for kind in ("", "TRACES_", "METRICS_")),
    "TRACE_AUTHENTICATION",
)
_YES = ("true", "1", "yes", "on")
_PROTOCOLS = ("http/protobuf", "grpc")


class Telemetry:
    """The process's exporters, from creation until `close`."""

    def __init__(self, service: str, *, prometheus: bool = False) -> None:
        """Starts the exporters that the environment requires. `service` is the service's name in spans and
        metrics; `prometheus` turns metrics for Prometheus on. Raises ValueError for an invalid variable."""
        environment = os.environ
        self._providers: list[Any] = []
        for name in _SECRETS:
            secrets.from_file(environment, name)
        if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return
        _as_the_reference_says(environment)
        self._trace(service, _exporters(environment, "TRACES"))
        self._measure(service, _exporters(environment, "METRICS"), prometheus=prometheus)

    def close(self) -> None:
        """Exports the remaining data, for at most CLOSE_SECONDS."""
        spans.use(None)
        meters.use(None)
        closing = [threading.Thread(target=provider.shutdown, daemon=True) for provider in self._providers]
        until = time.monotonic() + CLOSE_SECONDS
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(max(0.0, until - time.monotonic()))

    def _trace(self, service: str, exporters: Sequence[str]) -> None:
        version_ = version("portico-runtime")
        if exporters and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope

            from portico.telemetry.tracing.trace_provider import TraceProvider

            scope = InstrumentationScope(SCOPE, version_)
            traces = TraceProvider(exporters, _protocol("TRACES"), _resource(service), scope)
            trace.set_tracer_provider(traces.provider)
            self._providers.append(traces.provider)
            spans.use(traces.starter, follows=traces.follows)
        elif not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            spans.use(trace.get_tracer(SCOPE, version_))

    def _measure(self, service: str, exporters: Sequence[str], *, prometheus: bool) -> None:
        if not exporters and not prometheus:
            return
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        from portico.telemetry.metrics.metric_readers import DurationReader, PrometheusReader

        scope = InstrumentationScope(SCOPE, version("portico-runtime"))
        added_up: list[meters.Timing] | None = [] if _usual_histograms(os.environ) else None
        timings = DurationReader(scope, added_up if added_up is not None else ())
        readers: list[MetricReader] = [_metric_reader(name, timings) for name in exporters]
        if prometheus:
            readers.append(PrometheusReader(timings))
        provider = MeterProvider(readers, _resource(service), shutdown_on_exit=False)
        metrics.set_meter_provider(provider)
        self._providers.append(provider)
        meters.use(provider.get_meter(scope.name, scope.version), added_up)


def _as_the_reference_says(environment: MutableMapping[str, str]) -> None:
    """Applies AgentScope Runtime's variables where OpenTelemetry's are unset."""
    if environment.get("TRACE_ENABLE_REPORT", "").lower() in _YES and environment.get("TRACE_ENDPOINT"):
        environment.setdefault("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", environment["TRACE_ENDPOINT"])
        environment.setdefault("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
        if authentication := environment.get("TRACE_AUTHENTICATION"):
            environment.setdefault("OTEL_EXPORTER_OTLP_TRACES_HEADERS", f"authentication={authentication}")


def _exporters(environment: Mapping[str, str], signal: str) -> Sequence[str]:
    """Names of the exporters for a signal (traces or metrics). Raises ValueError."""
    variable = f"OTEL_{signal}_EXPORTER"
    named = [name.strip() for name in environment.get(variable, "").split(",") if name.strip()]
    if not named:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        named = ["otlp"] if any(environment.get(name) for name in endpoints) else []
    if wrong := sorted(set(named) - {"otlp", "console", "none"}):
        raise ValueError(f"{variable} must be otlp, console or none, not {wrong[0]!r}")
    return [] if "none" in named else named


def _protocol(signal: str) -> str:
    """Raises ValueError."""
    variable = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"
    if not os.environ.get(variable):
        variable = "OTEL_EXPORTER_OTLP_PROTOCOL"
    protocol = os.environ.get(variable) or _PROTOCOLS[0]
    if protocol not in _PROTOCOLS:
        raise ValueError(f"{variable} is {' or '.join(_PROTOCOLS)}, not {protocol!r}")
    return protocol


def _usual_histograms(environment: Mapping[str, str]) -> bool:
    """Whether durations are cumulative, in Portico's default buckets."""
    wanted = {
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "cumulative",
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "explicit_bucket_histogram",
    }
    return all((environment.get(name) or usual).lower() == usual for name, usual in wanted.items())


def _metric_reader(name: str, timings: "DurationReader") -> "MetricReader":
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter

    from portico.telemetry.metrics.metric_readers import PeriodicReader

    if name == "console":
        return PeriodicReader(ConsoleMetricExporter(), timings)
    if _protocol("METRICS") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter

        return PeriodicReader(GrpcExporter(), timings)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return PeriodicReader(OTLPMetricExporter(), timings)


def _resource(service: str) -> "Resource":
    from opentelemetry.sdk.resources import Resource

    attributes = {
        "service.version": version("portico-runtime"),
        "service.instance.id": uuid4().hex,
    }
    given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in given:
        attributes["service.name"] = service
    return Resource.create(attributes)
