"""The tracer provider, and the Recorder for Portico's own spans where it suffices."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, SynchronousMultiSpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from portico.telemetry.tracing import spans
from portico.telemetry.tracing.otlp_encoder import Encoder
from portico.telemetry.tracing.span_recorder import SpanRecorder

if TYPE_CHECKING:
    from portico.telemetry.tracing.otlp_grpc import GrpcSpanExporter
    from portico.telemetry.tracing.otlp_http import HttpSpanExporter


class TraceProvider:
    """A tracer provider that exports, and `starter`, which starts Portico's spans."""

    def __init__(
        self, exporters: Sequence[str], protocol: str, resource: Resource, scope: InstrumentationScope
    ) -> None:
        listeners = _Listeners(scope)
        self.provider = TracerProvider(
            resource=resource, shutdown_on_exit=False, active_span_processor=listeners
        )
        self.starter: spans.Starter = self.provider.get_tracer(scope.name, scope.version)
        if "console" in exporters:
            listeners.take(BatchSpanProcessor(ConsoleSpanExporter()))
        if "otlp" in exporters:
            exporter = _otlp(protocol, Encoder(resource, scope))
            processor = BatchSpanProcessor(exporter)
            listeners.take(processor)
            alone = len(exporters) == 1
            if alone and exporter.takes_recorded and _usual(self.provider.sampler, os.environ):
                self.starter = SpanRecorder(scope, self.provider.sampler, resource, processor)
        self.follows = isinstance(self.starter, SpanRecorder) and self.starter.follows


class _Listeners(SynchronousMultiSpanProcessor):
    """Span processors. If an agent's library adds one, it expects the SDK's spans; from then on Portico's
    spans are the SDK's too."""

    def __init__(self, scope: InstrumentationScope) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._scope = scope

    def take(self, processor: SpanProcessor) -> None:
        """Adds one of Portico's processors."""
        super().add_span_processor(processor)

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        super().add_span_processor(span_processor)
        if isinstance(spans.tracer(), SpanRecorder):
            spans.use(trace.get_tracer(self._scope.name, self._scope.version))


def _usual(sampler: sampling.Sampler, environment: Iterable[str]) -> bool:
    """Whether the sampler is one of the SDK's and the span limits are the defaults."""
    limited = any(name.startswith("OTEL_") and name.endswith("_LIMIT") for name in environment)
    return type(sampler).__module__ == sampling.__name__ and not limited


def _otlp(protocol: str, encoder: Encoder) -> "HttpSpanExporter | GrpcSpanExporter":
    if protocol == "grpc":
        from portico.telemetry.tracing.otlp_grpc import GrpcSpanExporter

        return GrpcSpanExporter(encoder)
    from portico.telemetry.tracing.otlp_http import HttpSpanExporter

    return HttpSpanExporter(encoder)
