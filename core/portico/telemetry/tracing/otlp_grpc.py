"""OTLP over gRPC: the library's exporter with Portico's encoder."""

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan

from portico.telemetry.tracing.otlp_encoder import Encoder


class GrpcSpanExporter(OTLPSpanExporter):
    """Exports recorded spans as well as the SDK's."""

    takes_recorded = True

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = encoder

    def _translate_data(self, data: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
        return self._encoder.message(data)
