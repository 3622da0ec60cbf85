"""A run belongs to its caller's trace: what its agent calls goes on with it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import context, propagate

_HEADERS = ("traceparent", "tracestate")


@contextmanager
def caller_trace(metadata: Mapping[str, str] | Sequence[tuple[str, str | bytes]] | None) -> Iterator[None]:
    """Within it, tasks begin in the trace that a call's metadata names; one that is active stays."""
    pairs = metadata.items() if isinstance(metadata, Mapping) else metadata or ()
    carrier = {name: value for name, value in pairs if name in _HEADERS and isinstance(value, str)}
    if not carrier:
        yield
        return
    token = context.attach(propagate.extract(carrier))
    try:
        yield
    finally:
        context.detach(token)
