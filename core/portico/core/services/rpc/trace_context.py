"""A run belongs to its caller's trace and request: what its agent calls and logs goes on with them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context, trace

from portico.telemetry import ids, spans
from portico.telemetry.calls import Call

REQUEST = "x-request-id"
_TRACE = ("traceparent", "tracestate")
Metadata = Iterable[tuple[str, str | bytes]]


def enter_request(metadata: Metadata | None) -> None:
    """The rest of this call's task belongs to the request that its metadata names."""
    for name, value in metadata or ():
        if name == REQUEST and isinstance(value, str):
            ids.request_id.set(ids.readable(value))


@contextmanager
def caller_trace(metadata: Metadata | None) -> Iterator[None]:
    """Within it, tasks begin in the trace that the metadata names; a span of the call's own goes before."""
    carrier = {name: value for name, value in metadata or () if name in _TRACE and isinstance(value, str)}
    if not carrier or trace.get_current_span().get_span_context().is_valid:
        yield
        return
    token = context.attach(spans.parent_of(carrier))
    try:
        yield
    finally:
        context.detach(token)


def enter_stream(metadata: Mapping[str, str], call: Call | None) -> None:
    """The same for a stream that shares a call with others, in a context of its own: the call's trace and
    request are not the stream's."""
    if call is not None or metadata:
        ids.request_id.set(ids.readable(metadata.get(REQUEST, "")))
        context.attach(spans.parent_of(metadata) if call is None else call.context)
