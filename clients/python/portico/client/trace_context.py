"""Calls belong to the trace that they are made in: to the current span, if there is one."""

from collections.abc import Mapping

from portico.telemetry.tracing import spans

Metadata = tuple[tuple[str, str | bytes], ...]


def in_trace(metadata: Metadata) -> Metadata:
    """The metadata with the current trace, which replaces one that it names."""
    own = spans.headers_of()
    return tuple({**dict(metadata), **own}.items()) if own else metadata


def stream_in_trace(metadata: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """The same for a multiplexed stream."""
    own = spans.headers_of()
    return {**(metadata or {}), **own} if own else metadata
