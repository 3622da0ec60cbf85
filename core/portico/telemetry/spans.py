"""Spans: none, for the price of a look at one variable, until there is a tracer.

What they are called and say follows OpenTelemetry's conventions for GenAI, RPC and HTTP. No span has
words of a caller or an agent in it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Attributes = Mapping[str, str | int | float | bool]

_w3c = TraceContextTextMapPropagator()
_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Whom this process makes its spans with from now on."""
    global _tracer
    _tracer = tracer


def tracer() -> Tracer | None:
    """None while nothing is traced."""
    return _tracer


def begin(
    name: str,
    attributes: Attributes,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: Context | None = None,
) -> Span | None:
    """A span that the caller ends; it is nobody's current one. Without a parent, of the current span."""
    return None if _tracer is None else _tracer.start_span(name, parent, kind, attributes)


def end(span: Span | None, error: str = "") -> None:
    """`error` is the kind of what went wrong, if it did: a code, or an exception's class."""
    if span is None:
        return
    if error:
        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR)
    span.end()


@contextmanager
def within(name: str, attributes: Attributes, *, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span | None]:
    """What is done in it is part of a span. Not for generators, which leave it in another context."""
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
    """The rest of this task is part of the span: the task must be its own."""
    if span is not None:
        context.attach(trace.set_span_in_context(span))


def parent_of(carrier: Mapping[str, str]) -> Context:
    """The caller's trace, by the W3C's headers; an empty context if there are none that can be read."""
    return _w3c.extract(carrier, Context()) if "traceparent" in carrier else Context()


def headers_of(span: Span | None = None) -> dict[str, str]:
    """The W3C's headers for a call in this span, or the current one; none when there is none."""
    headers: dict[str, str] = {}
    # Only these two travel, whatever OTEL_PROPAGATORS adds: baggage may hold what is nobody's business.
    _w3c.inject(headers, None if span is None else trace.set_span_in_context(span))
    return headers
