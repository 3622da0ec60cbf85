"""Tracing of an agent's own steps: portico.tracing."""

from portico.tracing import (
    BaseLogHandler,
    EventContext,
    LocalLogHandler,
    Tracer,
    TracerHandler,
    TraceType,
    TracingUtil,
    create_handler,
    get_finish_reason,
    get_tracer,
    merge_incremental_chunk,
    trace,
)

__all__ = [
    "BaseLogHandler",
    "EventContext",
    "LocalLogHandler",
    "TraceType",
    "Tracer",
    "TracerHandler",
    "TracingUtil",
    "create_handler",
    "get_finish_reason",
    "get_tracer",
    "merge_incremental_chunk",
    "trace",
]
