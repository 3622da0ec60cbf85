"""Tracing for agents' authors, in AgentScope Runtime's words: `@trace(TraceType.LLM)`, Tracer and handlers.

What is traced is a span of the run that it is done in, with its input and output, if this process exports
spans; and it is told to the handlers, if there are any.
"""

from portico.tracing.decorator import trace
from portico.tracing.json_log import LocalLogHandler
from portico.tracing.stream_merging import get_finish_reason, merge_incremental_chunk
from portico.tracing.task_attributes import TracingUtil
from portico.tracing.tracer import (
    BaseLogHandler,
    EventContext,
    Tracer,
    TracerHandler,
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
