"""A run belongs to its caller's trace: what its agent calls goes on with it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context, propagate, trace

_HEADERS = ("traceparent", "tracestate")


@contextmanager
def caller_trace(
    metadata: Mapping[str, str] | Iterable[tuple[str, str | bytes]] | None, *, shared: bool = False
) -> Iterator[None]:
    """Within it, tasks begin in the trace that the metadata names. A span of the call's own goes before,
    unless the call is `shared` by many."""
    pairs = metadata.items() if isinstance(metadata, Mapping) else metadata or ()
    carrier = {name: value for name, value in pairs if name in _HEADERS and isinstance(value, str)}
    if not carrier or (not shared and trace.get_current_span().get_span_context().is_valid):
        yield
        return
    token = context.attach(propagate.extract(carrier))
    try:
        yield
    finally:
        context.detach(token)
