"""OTLP over HTTP: the library's exporter, with an encoder of ours."""

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from portico.telemetry.tracing.otlp_encoder import Encoder


class HttpSpanExporter(OTLPSpanExporter):
    """Takes recorded spans too, if it is of a release that lets us send what is encoded already."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = encoder
        self.takes_recorded = hasattr(self, "_client")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if not self.takes_recorded:
            return super().export(spans)
        sent = self._client.export(self._encoder.encode(spans))
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE
