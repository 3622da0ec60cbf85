"""Takes trace context and request id from a call's metadata, for the spans and log lines of its run."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context, trace

from portico.telemetry.log import log_ids
from portico.telemetry.tracing import spans
from portico.telemetry.tracing.rpc_telemetry import RpcSpan

REQUEST = "x-request-id"
_TRACE = ("traceparent", "tracestate")
Metadata = Iterable[tuple[str, str | bytes]]


def bind_request_context(metadata: Metadata | None) -> None:
    """Sets the request id in the metadata for the rest of this call's task."""
    for name, value in metadata or ():
        if name == REQUEST and isinstance(value, str):
            log_ids.request_id.set(log_ids.readable(value))


@contextmanager
def inherit_trace(metadata: Metadata | None) -> Iterator[None]:
    """Within the context, tasks start in the trace in the metadata, unless the call has a span itself."""
    carrier = {name: value for name, value in metadata or () if name in _TRACE and isinstance(value, str)}
    if not carrier or trace.get_current_span().get_span_context().is_valid:
        yield
        return
    token = context.attach(spans.parent_of(carrier))
    try:
        yield
    finally:
        context.detach(token)


def bind_stream_context(metadata: Mapping[str, str], call: RpcSpan | None) -> None:
    """Sets trace and request id of a multiplexed stream, in the stream's own context: they differ from those
    of the call that carries it."""
    if call is not None or metadata:
        log_ids.request_id.set(log_ids.readable(metadata.get(REQUEST, "")))
        context.attach(spans.parent_of(metadata) if call is None else call.context)
