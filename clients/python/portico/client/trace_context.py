"""Adds the current trace to the metadata of calls."""

from collections.abc import Mapping

from portico.telemetry.tracing import spans

Metadata = tuple[tuple[str, str | bytes], ...]


def in_trace(metadata: Metadata) -> Metadata:
    """Returns the metadata with the current trace, which replaces an earlier one."""
    own = spans.headers_of()
    return tuple({**dict(metadata), **own}.items()) if own else metadata


def stream_in_trace(metadata: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Returns the metadata of a multiplexed stream with the current trace."""
    own = spans.headers_of()
    return {**(metadata or {}), **own} if own else metadata
