"""Spans and durations of RPCs: a gRPC server interceptor.

It replaces the server part of opentelemetry-instrumentation-grpc, which does not see the status of an aborted
call, leaves the span of a cancelled call open, and exits its context in a different task than it entered it
when a stream is cut off.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any

import grpc
import grpc.aio
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from portico.telemetry.metrics import meters
from portico.telemetry.tracing import spans

# Statuses that are the server's fault; the others are callers' errors or intended outcomes.
_FAULTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")


_SYSTEM = "grpc"
_LABELS = ("rpc.system.name", "rpc.method", "rpc.response.status_code")


class RpcTelemetry:
    """Records the calls of one server."""

    def __init__(self) -> None:
        meter = meters.meter()
        self._durations: meters.Durations | None = None
        if meter is not None:
            name = "rpc.server.call.duration"
            about = "Duration of calls; of streams, until their end."
            self._durations = meters.seconds(meter, name, about, *_LABELS)

    @property
    def seen(self) -> bool:
        """Whether spans or metrics are on."""
        return self._durations is not None or spans.tracer() is not None

    def begin(self, method: str, metadata: Mapping[str, str], *, span: bool = True) -> "RpcSpan | None":
        """Starts recording a call of a method (its full name without the leading slash); None if telemetry is
        off.

        Without a span, the call still belongs to its caller's trace.
        """
        return RpcSpan(method, metadata, self._durations, span=span) if self.seen else None


class RpcSpan:
    """One open call. It ends once; further calls of `end` do nothing."""

    __slots__ = ("_began", "_durations", "_method", "_parent", "_span")

    def __init__(
        self, method: str, metadata: Mapping[str, str], durations: meters.Durations | None, *, span: bool
    ) -> None:
        self._method = method
        self._durations: meters.Durations | None = durations
        self._parent = spans.parent_of(metadata)
        self._span = None
        if span:
            about = {"rpc.system.name": _SYSTEM, "rpc.method": method}
            self._span = spans.begin(method, about, kind=SpanKind.SERVER, parent=self._parent)
        self._began = time.perf_counter()

    @property
    def context(self) -> Context:
        """Context for the work of this call."""
        return self._parent if self._span is None else trace.set_span_in_context(self._span, self._parent)

    def end(self, code: str) -> None:
        """Ends the call with the name of a gRPC status."""
        span, self._span = self._span, None
        if span is not None:
            spans.end(span, code if code in _FAULTS else "", {"rpc.response.status_code": code})
        durations, self._durations = self._durations, None
        if durations is not None:
            durations.record(time.perf_counter() - self._began, _SYSTEM, self._method, code)


class TelemetryInterceptor(grpc.aio.ServerInterceptor):
    """Records every RPC of the services under a prefix, except those that only carry other calls."""

    def __init__(self, calls: RpcTelemetry, prefix: str, carriers: Collection[str] = ()) -> None:
        self._calls = calls
        self._prefix = prefix
        self._carriers = carriers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        handler: Any = await continuation(details)
        path = details.method
        if handler is None or not path.startswith(self._prefix) or path in self._carriers:
            return handler  # type: ignore[no-any-return]
        metadata = _texts(details.invocation_metadata)
        if handler.response_streaming:
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            stream = self._stream(handler.stream_stream or handler.unary_stream, path[1:], metadata)
            return make(stream, handler.request_deserializer, handler.response_serializer)
        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        unary = self._unary(handler.stream_unary or handler.unary_unary, path[1:], metadata)
        return make(unary, handler.request_deserializer, handler.response_serializer)

    def _unary(self, behaviour: Any, method: str, metadata: Mapping[str, str]) -> Any:
        async def unary(request: Any, servicer: grpc.aio.ServicerContext) -> Any:
            call = self._calls.begin(method, metadata)
            if call is None:
                return await behaviour(request, servicer)
            context.attach(call.context)  # not detached: the task belongs to this call
            code = "CANCELLED"
            try:
                response = await behaviour(request, servicer)
                code = _code(servicer)
                return response
            except Exception:
                code = _code(servicer, "UNKNOWN")
                raise
            finally:
                call.end(code)

        return unary

    def _stream(self, behaviour: Any, method: str, metadata: Mapping[str, str]) -> Any:
        async def stream(request: Any, servicer: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            call = self._calls.begin(method, metadata)
            if call is not None:
                context.attach(call.context)
            code = "CANCELLED"
            responses = behaviour(request, servicer)
            try:
                async for response in responses:
                    yield response
                code = _code(servicer)
            except Exception:
                code = _code(servicer, "UNKNOWN")
                raise
            finally:
                await responses.aclose()
                if call is not None:
                    call.end(code)

        return stream


def _texts(metadata: Any) -> Mapping[str, str]:
    return {name: value for name, value in metadata or () if isinstance(value, str)}


def _code(servicer: grpc.aio.ServicerContext, default: str = "OK") -> str:
    """The status that the service set, or else the default."""
    code: Any = servicer.code()
    if isinstance(code, int):
        code = next((status for status in grpc.StatusCode if status.value[0] == code), None)
    return default if code is None or code is grpc.StatusCode.OK else str(code.name)
