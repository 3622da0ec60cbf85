"""`@trace`: records the calls of functions, coroutines and generators as spans and as handlers' events.

The span of a generator is current only while the generator computes, not between its items: its reader has
its own span, and may close it in another task.
"""

import inspect
import os
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache, partial, wraps
from typing import Any, TypeVar

from opentelemetry import context, propagate
from opentelemetry import trace as opentelemetry_trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span

from portico.telemetry.tracing import spans
from portico.tracing.json_log import LocalLogHandler, as_json
from portico.tracing.stream_merging import get_finish_reason, merge_incremental_chunk
from portico.tracing.task_attributes import TracingUtil
from portico.tracing.tracer import EventContext, Tracer
from portico.tracing.types import TraceType

F = TypeVar("F", bound=Callable[..., Any])

MAX_CHARACTERS = 64 * 1024  # longest input or output in a span
MAX_ITEMS = 10_000  # most items of a stream to keep for merging
_OPERATIONS = {
    TraceType.AGENT: "invoke_agent",
    TraceType.AGENT_STEP: "invoke_agent",
    TraceType.EMBEDDING: "embeddings",
    TraceType.FUNCTION_CALL: "execute_tool",
    TraceType.LLM: "chat",
    TraceType.MEMORY: "retrieval",
    TraceType.PLUGIN: "execute_tool",
    TraceType.RAG: "retrieval",
    TraceType.RETRIEVER: "retrieval",
    TraceType.SEARCH: "retrieval",
    TraceType.TOOL: "execute_tool",
}


def trace(
    trace_type: TraceType | str | None = None,
    *,
    trace_name: str | None = None,
    is_root_span: bool | None = None,
    get_finish_reason_func: Callable[[Any], str | None] | None = get_finish_reason,
    merge_output_func: Callable[[list[Any]], Any] | None = merge_incremental_chunk,
) -> Callable[[F], F]:
    """Traces the calls of a function, a coroutine, a generator or an async generator.

    The span contains the arguments and the result. If the function has **kwargs, it receives `trace_event`
    (an EventContext), to log and to set attributes. A caller may pass `trace_context=` to set another parent.

    Args:
        trace_type: Kind of the work; it determines the span's operation.
        trace_name: Name of the event; the function's name by default.
        is_root_span: Whether the call starts a new trace.
        get_finish_reason_func: Returns a stream item's finish reason; None for no finish reason.
        merge_output_func: Merges a stream's items into the span's output.
    """
    kind = TraceType(trace_type or TraceType.OTHER)

    def decorate(function: F) -> F:
        def begun(args: Any, kwargs: dict[str, Any]) -> _Call:
            return _Call(
                function, kind, trace_name or function.__name__, args, kwargs, root=bool(is_root_span)
            )

        def streamed(call: _Call) -> _Stream:
            return _Stream(call, get_finish_reason_func, merge_output_func)

        @wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            call = begun(args, kwargs)
            with call.ending(), call.current():
                return call.returned(await function(*args, **call.kwargs))

        @wraps(function)
        def plain(*args: Any, **kwargs: Any) -> Any:
            call = begun(args, kwargs)
            with call.ending(), call.current():
                return call.returned(function(*args, **call.kwargs))

        @wraps(function)
        async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            call = begun(args, kwargs)
            stream = streamed(call)
            items = function(*args, **call.kwargs)
            with call.ending():
                try:
                    step = partial(items.asend, None)
                    while True:
                        try:
                            with call.current():
                                item = await step()
                        except StopAsyncIteration:
                            stream.ended()
                            return
                        stream.took(item)
                        try:
                            step = partial(items.asend, (yield item))
                        except GeneratorExit:
                            raise
                        except BaseException as thrown:
                            step = partial(items.athrow, thrown)
                finally:
                    await items.aclose()

        @wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            call = begun(args, kwargs)
            stream = streamed(call)
            items = function(*args, **call.kwargs)
            with call.ending():
                try:
                    step = partial(items.send, None)
                    while True:
                        try:
                            with call.current():
                                item = step()
                        except StopIteration as end:
                            stream.ended()
                            return end.value
                        stream.took(item)
                        try:
                            step = partial(items.send, (yield item))
                        except GeneratorExit:
                            raise
                        except BaseException as thrown:
                            step = partial(items.throw, thrown)
                finally:
                    items.close()

        chosen: Any = plain
        if inspect.isasyncgenfunction(function):
            chosen = async_generator
        elif inspect.isgeneratorfunction(function):
            chosen = generator
        elif inspect.iscoroutinefunction(function):
            chosen = coroutine
        return chosen  # type: ignore[no-any-return]

    return decorate


@cache
def _tracer() -> Tracer:
    """The default tracer; with a handler for files in ./logs if TRACE_ENABLE_LOG is on."""
    wanted = os.environ.get("TRACE_ENABLE_LOG", "").lower() in ("true", "1", "yes", "on")
    return Tracer([LocalLogHandler(enable_console=True)] if wanted else [])


class _Call:
    """One traced call."""

    def __init__(
        self,
        function: Callable[..., Any],
        kind: TraceType,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        root: bool,
    ) -> None:
        handlers = _tracer()
        self.seen = bool(handlers.handlers) or spans.tracer() is not None
        parent: Context | None = kwargs.get("trace_context")
        self.kwargs = kwargs
        if parent is not None and not _takes(function, "trace_context"):
            self.kwargs = {key: value for key, value in kwargs.items() if key != "trace_context"}
        payload = _payload(inspect.signature(function), args, self.kwargs) if self.seen else {}
        span = self._span(kind, name, payload, parent, root=root)
        self.span = span or INVALID_SPAN
        self.event: EventContext = handlers.begin(self.span, name, payload)
        if _takes(function, ""):
            self.kwargs = {**self.kwargs, "trace_event": self.event}

    def _span(
        self, kind: TraceType, name: str, payload: dict[str, Any], parent: Context | None, *, root: bool
    ) -> Span | None:
        if spans.tracer() is None:
            return None
        if parent is None and not opentelemetry_trace.get_current_span().get_span_context().is_valid:
            parent = propagate.extract(TracingUtil.get_trace_header()) or None
        attributes: dict[str, str | int | float | bool] = {
            "gen_ai.span.kind": str(kind),
            "gen_ai.user.query_root_flag": int(root),
            "input.mine_type": "application/json",
            "input.value": as_json(payload)[:MAX_CHARACTERS],
            **TracingUtil.get_common_attributes(),
        }
        if kind in _OPERATIONS:
            attributes["gen_ai.operation.name"] = _OPERATIONS[kind]
            if _OPERATIONS[kind] == "execute_tool":
                attributes["gen_ai.tool.name"] = name
        return spans.begin(name, attributes, parent=parent)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Makes the call's span current within the context."""
        if self.span is INVALID_SPAN:
            yield
            return
        token = context.attach(opentelemetry_trace.set_span_in_context(self.span))
        try:
            yield
        finally:
            context.detach(token)

    @contextmanager
    def ending(self) -> Iterator[None]:
        error = ""
        try:
            yield
        except Exception as raised:
            error = type(raised).__name__
            self.event.on_log(str(raised))
            self.event.failed(raised)
            raise
        except BaseException as raised:
            error = "" if isinstance(raised, GeneratorExit) else type(raised).__name__
            raise
        else:
            self.event.finished()
        finally:
            if self.span is not INVALID_SPAN:
                spans.end(self.span, error)

    def returned(self, result: Any) -> Any:
        """Records the result and returns it."""
        if self.seen:
            text = result if isinstance(result, str) else as_json(result)
            mime = "text/plain" if isinstance(result, str) else "application/json"
            self.span.set_attribute("output.mine_type", mime)
            self.span.set_attribute("output.value", text[:MAX_CHARACTERS])
            self.event.on_end({} if result is None else result)
        return result


class _Stream:
    """Items that a generator has yielded so far."""

    def __init__(
        self,
        call: _Call,
        finish_reason: Callable[[Any], str | None] | None,
        merge: Callable[[list[Any]], Any] | None,
    ) -> None:
        self._call = call
        self._finish_reason = finish_reason
        self._merge = merge
        self._began = time.perf_counter()
        self._items: list[Any] = []
        self._first = True

    def took(self, item: Any) -> None:
        call = self._call
        if not call.seen:
            return
        if len(self._items) < MAX_ITEMS:
            self._items.append(item)
        if self._first:
            self._first = False
            delay = int((time.perf_counter() - self._began) * 1000)
            call.span.set_attribute("gen_ai.response.first_delay", delay)
            call.span.set_attribute("gen_ai.response.first_pkg", as_json(item)[:MAX_CHARACTERS])
            call.event.on_log("", step_suffix="first_resp", payload=item)
        if self._finish_reason is not None and (reason := self._finish_reason(item)):
            call.span.set_attribute(f"gen_ai.response.pkg_{reason}", as_json(item)[:MAX_CHARACTERS])
            suffix = "last_resp" if reason == "stop" else reason
            call.event.on_log("", step_suffix=suffix, payload=item)

    def ended(self) -> None:
        if self._items and self._merge is not None:
            self._call.returned(self._merge(self._items))


@cache
def _takes(function: Callable[..., Any], name: str) -> bool:
    """Whether the function has a parameter of that name; for an empty name, whether it has **kwargs."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _payload(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        given = signature.bind_partial(*args, **kwargs).arguments
    except TypeError:
        return dict(kwargs)  # the arguments don't match; the call itself raises the error
    flat: dict[str, Any] = {}
    for name, value in given.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            flat.update(value)
        else:
            flat[name] = value
    return {name: value for name, value in flat.items() if name != "self" and not name.startswith("trace_")}
