"""Spans: none, for the price of a look at one variable, until there is a tracer.

What they are called and say follows OpenTelemetry's conventions for GenAI, RPC and HTTP. No span has
words of a caller or an agent in it.
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
    """What begins spans: a tracer of the SDK, or a recorder."""

    def start_span(
        self, name: str, context: Context | None, kind: SpanKind, attributes: Attributes
    ) -> Span: ...


# What nearly everybody sends; the library reads the rest.
_TRACEPARENT = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_FLAGS = tuple(TraceFlags(bits) for bits in range(256))
_NOWHERE = Context()
_w3c = TraceContextTextMapPropagator()
_tracer: Starter | None = None
_follows = False


def use(tracer: Starter | None, *, follows: bool = False) -> None:
    """Whom this process makes its spans with from now on, and whether it leaves out every span whose parent
    is left out."""
    global _tracer, _follows
    _tracer, _follows = tracer, follows


def tracer() -> Starter | None:
    """None while nothing is traced."""
    return _tracer


def left_out() -> bool:
    """Whether a span that begins here would be left out, with all that is below it, as the current one is."""
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
    """A span that the caller ends; it is nobody's current one. Without a parent, of the current span."""
    return None if _tracer is None else _tracer.start_span(name, parent, kind, attributes)


def end(span: Span | None, error: str = "", attributes: Attributes | None = None) -> None:
    """`error` is the kind of what went wrong, if it did: a code, or an exception's class."""
    if span is None:
        return
    if attributes:
        span.set_attributes(attributes)
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
    """The W3C's headers for a call in this span, or the current one; none when there is none."""
    own = (trace.get_current_span() if span is None else span).get_span_context()
    if not own.is_valid:
        return {}
    headers = {"traceparent": f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"}
    if own.trace_state:
        headers["tracestate"] = own.trace_state.to_header()
    return headers
