"""OTLP over HTTP: the library's exporter with Portico's encoder."""

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from portico.telemetry.tracing.otlp_encoder import Encoder


class HttpSpanExporter(OTLPSpanExporter):
    """Exports recorded spans as well as the SDK's, if the library's release can send encoded data."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = encoder
        self.takes_recorded = hasattr(self, "_client")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if not self.takes_recorded:
            return super().export(spans)
        sent = self._client.export(self._encoder.encode(spans))
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE
