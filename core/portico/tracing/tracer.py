"""Tracer: reports start, end, failure and log messages of traced work to its handlers."""

import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span

from portico.tracing.handlers import BaseLogHandler, Payload, TracerHandler
from portico.tracing.json_log import LocalLogHandler


class EventContext:
    """Traced work in progress."""

    def __init__(
        self, span: Span, handlers: Sequence[TracerHandler], name: str, start_time: float, payload: Payload
    ) -> None:
        self.span = span
        self.handlers = handlers
        self.event_name = name
        self.start_time = start_time
        self.start_payload = payload
        self.end_payload: Any = {}
        self.kwargs: dict[str, Any] = {}

    def on_end(self, payload: Any, **kwargs: Any) -> None:
        """Sets the payload that handlers receive at the end."""
        self.end_payload = payload
        self.kwargs = kwargs

    def on_log(self, message: str, **kwargs: Any) -> None:
        about = {
            "event_name": self.event_name,
            "start_time": self.start_time,
            "start_payload": self.start_payload,
        }
        for handler in self.handlers:
            handler.on_log(message, **{**kwargs, **about})

    def set_attribute(self, key: str, value: Any) -> None:
        """Sets an attribute of the span."""
        self.span.set_attribute(key, value)

    def get_trace_context(self) -> Context:
        """The context to pass as `trace_context` to a traced function in another task or thread."""
        return trace.set_span_in_context(self.span)

    def finished(self) -> None:
        for handler in self.handlers:
            handler.on_end(
                self.event_name, self.start_payload, self.end_payload, self.start_time, **self.kwargs
            )

    def failed(self, error: Exception) -> None:
        told = "".join(traceback.format_exception(error))
        for handler in self.handlers:
            handler.on_error(self.event_name, self.start_payload, error, self.start_time, traceback_info=told)


class Tracer:
    """Informs handlers: `with tracer.event(span, name, payload) as event: ...; event.on_end(result)`."""

    def __init__(self, handlers: Sequence[TracerHandler]) -> None:
        self.handlers = list(handlers)

    def begin(self, span: Span, event_name: str, payload: Payload, **kwargs: Any) -> EventContext:
        """Starts an event that the caller must end with `finished` or `failed`."""
        for handler in self.handlers:
            handler.on_start(event_name, payload, **kwargs)
        return EventContext(span, self.handlers, event_name, time.time(), payload)

    @contextmanager
    def event(self, span: Span, event_name: str, payload: Payload, **kwargs: Any) -> Iterator[EventContext]:
        event = self.begin(span, event_name, payload, **kwargs)
        try:
            yield event
        except Exception as error:
            event.failed(error)
            raise
        event.finished()

    def log(self, message: str, **kwargs: Any) -> None:
        for handler in self.handlers:
            handler.on_log(message, **kwargs)


def create_handler(eval_mode: str | Sequence[str] = "default", **eval_params: Any) -> list[TracerHandler]:
    """Makes handlers: `default` writes to the process's log, `local_logging` to separate JSON files. Raises
    ValueError for other modes."""
    modes = [eval_mode] if isinstance(eval_mode, str) else list(eval_mode)
    if wrong := set(modes) - {"default", "local_logging"}:
        raise ValueError(f"eval_mode must be default or local_logging, not {wrong.pop()!r}")
    handlers: list[TracerHandler] = []
    if "default" in modes:
        handlers.append(BaseLogHandler())
    if "local_logging" in modes:
        handlers.append(LocalLogHandler(**eval_params))
    return handlers


def get_tracer(eval_mode: str | Sequence[str] = "default", **eval_params: Any) -> Tracer:
    """Returns one tracer per set of modes; parameters count in the first call only."""
    modes = (eval_mode,) if isinstance(eval_mode, str) else tuple(eval_mode)
    return _tracer(modes, tuple(eval_params.items()))


@lru_cache
def _tracer(modes: tuple[str, ...], parameters: tuple[tuple[str, Any], ...]) -> Tracer:
    return Tracer(create_handler(modes, **dict(parameters)))
