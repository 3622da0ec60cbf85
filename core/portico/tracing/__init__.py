"""Tracing API for agent authors, compatible with AgentScope Runtime: `@trace(TraceType.LLM)`, Tracer,
handlers.

A traced call becomes a span of its run, with input and output, if this process exports spans. Handlers, if
any, receive its events.
"""

from portico.tracing.decorator import trace
from portico.tracing.handlers import BaseLogHandler, TracerHandler
from portico.tracing.json_log import LocalLogHandler
from portico.tracing.stream_merging import get_finish_reason, merge_incremental_chunk
from portico.tracing.task_attributes import TracingUtil
from portico.tracing.tracer import (
    EventContext,
    Tracer,
    create_handler,
    get_tracer,
)
from portico.tracing.types import TraceType

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
