"""Spans of this process. Without a tracer, each operation costs only the check of one variable.

Names and attributes follow OpenTelemetry's conventions for GenAI, RPC and HTTP. No span contains texts of
callers or agents.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Attributes = Mapping[str, str | int | float | bool]


class Starter(Protocol):
    """Starts spans: a tracer of the SDK, or a Recorder."""

    def start_span(
        self, name: str, context: Context | None, kind: SpanKind, attributes: Attributes
    ) -> Span: ...


# The usual form of the header; the library parses all others.
_TRACEPARENT = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_FLAGS = tuple(TraceFlags(bits) for bits in range(256))
_NOWHERE = Context()
_w3c = TraceContextTextMapPropagator()
_tracer: Starter | None = None
_follows = False


def use(tracer: Starter | None, *, follows: bool = False) -> None:
    """Sets the process's tracer; None turns spans off. `follows`: a span is left out if its parent is."""
    global _tracer, _follows
    _tracer, _follows = tracer, follows


def tracer() -> Starter | None:
    """The process's tracer; None while spans are off."""
    return _tracer


def is_excluded() -> bool:
    """Whether a span that starts here, and its children, would be left out because the current one is."""
    if not _follows:
        return _tracer is None
    current = trace.get_current_span().get_span_context()
    return current.is_valid and not current.trace_flags & TraceFlags.SAMPLED


def begin(
    name: str,
    attributes: Attributes,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: Context | None = None,
) -> Span | None:
    """Starts a span that the caller must end; it does not become the current span. The parent is the current
    span by default."""
    return None if _tracer is None else _tracer.start_span(name, parent, kind, attributes)


def end(span: Span | None, error: str = "", attributes: Attributes | None = None) -> None:
    """Ends a span; `error` is an error code or the name of an exception's class, empty for success."""
    if span is None:
        return
    if attributes:
        span.set_attributes(attributes)
    if error:
        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR)
    span.end()


@contextmanager
def in_span(
    name: str, attributes: Attributes, *, kind: SpanKind = SpanKind.INTERNAL
) -> Iterator[Span | None]:
    """Makes a span current within the context. Not for generators, which may exit it in another context."""
    span = begin(name, attributes, kind=kind)
    if span is None:
        yield None
        return
    token = context.attach(trace.set_span_in_context(span))
    error = ""
    try:
        yield span
    except BaseException as raised:
        error = type(raised).__name__
        raise
    finally:
        context.detach(token)
        end(span, error)


def enter(span: Span | None) -> None:
    """Makes the span current for the rest of this task, which must belong to it alone."""
    if span is not None:
        context.attach(trace.set_span_in_context(span))


def parent_of(carrier: Mapping[str, str]) -> Context:
    """The caller's trace context from W3C headers; empty if they are missing or malformed."""
    named = carrier.get("traceparent")
    if named is None:
        return _NOWHERE
    found = None if "tracestate" in carrier else _TRACEPARENT.fullmatch(named)
    if found is None:
        return _w3c.extract(carrier, _NOWHERE)
    flags = _FLAGS[int(named[53:], 16)]
    parent = SpanContext(int(named[3:35], 16), int(named[36:52], 16), True, flags)
    return trace.set_span_in_context(NonRecordingSpan(parent), _NOWHERE) if parent.is_valid else _NOWHERE


def headers_of(span: Span | None = None) -> dict[str, str]:
    """W3C headers for a call within this span, by default the current one; empty without one."""
    own = (trace.get_current_span() if span is None else span).get_span_context()
    if not own.is_valid:
        return {}
    headers = {"traceparent": f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"}
    if own.trace_state:
        headers["tracestate"] = own.trace_state.to_header()
    return headers
