"""A Tracer tells its handlers what begins, ends, fails and is said in between."""

import logging
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span

log = logging.getLogger("portico.tracing")
Payload = Mapping[str, Any]


class TracerHandler(ABC):
    """Is told, in the thread or task of the work; it must be quick."""

    @abstractmethod
    def on_start(self, event_name: str, payload: Payload, **kwargs: Any) -> None: ...

    @abstractmethod
    def on_end(
        self, event_name: str, start_payload: Payload, end_payload: Any, start_time: float, **kwargs: Any
    ) -> None: ...

    @abstractmethod
    def on_log(self, message: str, **kwargs: Any) -> None: ...

    @abstractmethod
    def on_error(
        self,
        event_name: str,
        start_payload: Payload,
        error: Exception,
        start_time: float,
        traceback_info: str,
        **kwargs: Any,
    ) -> None: ...


class BaseLogHandler(TracerHandler):
    """To the logger `portico.tracing`."""

    def on_start(self, event_name: str, payload: Payload, **kwargs: Any) -> None:
        log.info("%s begins: %s", event_name, payload)

    def on_end(
        self, event_name: str, start_payload: Payload, end_payload: Any, start_time: float, **kwargs: Any
    ) -> None:
        log.info("%s ends after %.3f s: %s", event_name, time.time() - start_time, end_payload)

    def on_log(self, message: str, **kwargs: Any) -> None:
        log.info("%s", message)

    def on_error(
        self,
        event_name: str,
        start_payload: Payload,
        error: Exception,
        start_time: float,
        traceback_info: str,
        **kwargs: Any,
    ) -> None:
        log.error("%s fails after %.3f s: %s", event_name, time.time() - start_time, traceback_info)


class EventContext:
    """One piece of work under way."""

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
        """What handlers are told at the end."""
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
        """Of the span."""
        self.span.set_attribute(key, value)

    def get_trace_context(self) -> Context:
        """For work elsewhere that belongs to this: its function's `trace_context` argument."""
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
        """An event that the caller ends, by `finished` or `failed`."""
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
    """`default` logs as everything does, `local_logging` to JSON files of its own. Raises ValueError."""
    from portico.tracing.json_log import LocalLogHandler

    modes = [eval_mode] if isinstance(eval_mode, str) else list(eval_mode)
    if wrong := set(modes) - {"default", "local_logging"}:
        raise ValueError(f"eval_mode is default or local_logging, not {wrong.pop()!r}")
    handlers: list[TracerHandler] = []
    if "default" in modes:
        handlers.append(BaseLogHandler())
    if "local_logging" in modes:
        handlers.append(LocalLogHandler(**eval_params))
    return handlers


def get_tracer(eval_mode: str | Sequence[str] = "default", **eval_params: Any) -> Tracer:
    """The same for the same modes; the parameters are those of the first call."""
    modes = (eval_mode,) if isinstance(eval_mode, str) else tuple(eval_mode)
    return _tracer(modes, tuple(eval_params.items()))


@lru_cache
def _tracer(modes: tuple[str, ...], parameters: tuple[tuple[str, Any], ...]) -> Tracer:
    return Tracer(create_handler(modes, **dict(parameters)))
