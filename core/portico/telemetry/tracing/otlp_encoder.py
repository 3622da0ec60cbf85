"""Encodes recorded spans as OTLP without the library's encoder, which costs more than the rest of a span.

The library encodes spans of the SDK, which agents and their libraries make. The field numbers are those of
opentelemetry/proto/trace/v1/trace.proto.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from portico.telemetry.tracing.span_recorder import RecordedSpan

_times = struct.Struct("<BQBQ").pack  # start_time_unix_nano = 7, end_time_unix_nano = 8
_flags = struct.Struct("<HI").pack  # flags = 16
_double = struct.Struct("<Bd").pack
_ERROR = b"\x7a\x02\x18\x02"  # status = 15, with code = 3: ERROR
_IS_REMOTE_KNOWN = 0x100
_IS_REMOTE = 0x200
_SHORT = 100  # longest value, in characters, whose encoding is cached


class Encoder:
    """Encodes spans of one resource; all recorded spans have the same scope."""

    def __init__(self, resource: Resource, scope: InstrumentationScope) -> None:
        empty = ReadableSpan("", INVALID_SPAN_CONTEXT, resource=resource, instrumentation_scope=scope)
        (around,) = encode_spans([empty]).resource_spans
        (inside,) = around.scope_spans
        del around.scope_spans[:]
        del inside.spans[:]
        # The constant part of the messages; protobuf allows any order of fields.
        self._resource = around.SerializeToString()
        self._scope = inside.SerializeToString()

    def encode(self, spans: Sequence[RecordedSpan | ReadableSpan]) -> bytes:
        """Encodes an ExportTraceServiceRequest (protobuf: concatenated encodings merge into one message)."""
        recorded = [_field(0x12, self._span(span)) for span in spans if isinstance(span, RecordedSpan)]
        others = [span for span in spans if not isinstance(span, RecordedSpan)]
        data = encode_spans(others).SerializeToString() if others else b""
        if recorded:
            inside = self._scope + b"".join(recorded)
            data += _field(0x0A, self._resource + _field(0x12, inside))
        return data

    def message(self, spans: Sequence[RecordedSpan | ReadableSpan]) -> ExportTraceServiceRequest:
        """The request as a message object."""
        return ExportTraceServiceRequest.FromString(self.encode(spans))

    def _span(self, span: RecordedSpan) -> bytes:
        context, parent = span.context, span.parent
        parts = [
            b"\x0a\x10" + context.trace_id.to_bytes(16, "big"),
            b"\x12\x08" + context.span_id.to_bytes(8, "big"),
            _text(0x2A, span.name),
            bytes((0x30, span.kind.value + 1)),
            _times(0x39, span.start_time, 0x41, span.end_time),
            _flags(0x0185, _IS_REMOTE_KNOWN | (_IS_REMOTE if parent.is_remote else 0)),
        ]
        if parent.is_valid:
            parts.append(b"\x22\x08" + parent.span_id.to_bytes(8, "big"))
        if context.trace_state:
            parts.append(
                _text(0x1A, ",".join(f"{key}={value}" for key, value in context.trace_state.items()))
            )
        for key, value in tuple(span.attributes.items()):  # a copy: an agent's thread may still change it
            short = not isinstance(value, str) or len(value) <= _SHORT
            parts.append(_common(key, value) if short else _attribute(key, value))
        if span.error:
            parts.append(_ERROR)
        return b"".join(parts)


def _attribute(key: str, value: Any) -> bytes:
    return _field(0x4A, _text(0x0A, key) + _field(0x12, _value(value)))


# Most attributes are equal in every span.
_common = lru_cache(maxsize=1024, typed=True)(_attribute)


def _value(value: Any) -> bytes:
    """Encodes an AnyValue."""
    if isinstance(value, str):
        return _text(0x0A, value)
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _varint(value & 0xFFFFFFFFFFFFFFFF)
    return _double(0x21, value)


def _text(tag: int, text: str) -> bytes:
    # Lone surrogates become question marks.
    return _field(tag, text.encode(errors="replace"))


def _field(tag: int, data: bytes) -> bytes:
    size = len(data)
    return (bytes((tag, size)) if size < 128 else bytes((tag,)) + _varint(size)) + data


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number > 127:
        octets.append(number & 127 | 128)
        number >>= 7
    octets.append(number)
    return bytes(octets)
