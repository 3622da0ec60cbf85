"""Registers the services' methods with gRPC, parses requests, and converts errors to gRPC statuses.

Methods come from the contract's descriptors. Requests are parsed here, so
malformed bytes give INVALID_ARGUMENT instead of a transport error; a method may
return a message or its encoding. A response above the message limit gives
LIMIT_EXCEEDED instead of a transport error.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo, RequestInfo
from google.rpc.status_pb2 import Status
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from grpc.aio import ServicerContext
from grpc_status import rpc_status

from portico.core.errors import DomainError, InvalidArgument, LimitExceeded, StoreUnavailable
from portico.core.services.rpc import audit_log, rate_limits
from portico.core.services.rpc.client_address import ClientAddressResolver
from portico.core.services.rpc.current_principal import authenticated_principal
from portico.core.services.rpc.trace_context import bind_request_context

log = logging.getLogger(__name__)

DOMAIN = "portico"
# These methods write their audit lines themselves once they have begun, because they know the run.
_NOTED_WITHIN = frozenset(f"/portico.v1.QueryService/{method}" for method in ("Query", "Multiplex"))
MESSAGE_BYTES = 16 * 1024 * 1024
# Longest error message. It goes into trailers, of which gRPC accepts 8 KiB: once in base64, and once with up
# to three characters per byte.
_MESSAGE_BYTES = 1_200
_VALUE_BYTES = 1_000
_NO_RETRY = ("grpc-retry-pushback-ms", "-1")
FIRST_SECONDS = 1.0  # longest wait for the first message of a refused call
STOP_SECONDS = 5.0  # longest wait for a client to stop sending after portico-stop


def status_of(code: grpc.StatusCode, reason: str, message: str, metadata: dict[str, str]) -> Status:
    """Makes a status with google.rpc.ErrorInfo. Truncates a long message or value, which may quote the
    request."""
    status = Status(code=code.value[0], message=_cut(message, _MESSAGE_BYTES))
    detail = AnyProto()
    metadata = {name: _cut(value, _VALUE_BYTES) for name, value in metadata.items()}
    detail.Pack(ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata))
    status.details.append(detail)
    return status


def _cut(text: str, most: int) -> str:
    data = text.encode()
    return text if len(data) <= most else data[:most].decode(errors="ignore") + "..."


def code_name(status: Status) -> str:
    """Name of a status's code."""
    return next(code.name for code in grpc.StatusCode if code.value[0] == status.code)


def error_status(error: BaseException, method: str) -> Status:
    """Converts an error to the caller's status. An unexpected exception becomes INTERNAL with an id that is
    also in the log."""
    if isinstance(error, DomainError):
        return status_of(grpc.StatusCode[error.code], error.reason, error.message, error.metadata)
    request_id = uuid4().hex
    log.error("%s failed, request %s", method, request_id, exc_info=error)
    status = status_of(
        grpc.StatusCode.INTERNAL,
        "INTERNAL",
        f"internal error; quote request {request_id} to the operator",
        {"request_id": request_id},
    )
    detail = AnyProto()
    detail.Pack(RequestInfo(request_id=request_id))
    status.details.append(detail)
    return status


def parse(message_class: type[Message], data: bytes) -> Any:
    """Parses a request message. Raises InvalidArgument for malformed bytes."""
    try:
        return message_class.FromString(data)
    except DecodeError:
        name = message_class.DESCRIPTOR.name
        raise InvalidArgument(name, "must be a valid message with UTF-8 text") from None


def handlers(
    services: Sequence[tuple[ServiceDescriptor, object]],
    origins: ClientAddressResolver,
    most: int = MESSAGE_BYTES,
) -> list[grpc.GenericRpcHandler]:
    """Makes generic handlers for all methods; a method that its service object lacks answers UNIMPLEMENTED.
    `most` is the largest response in bytes."""
    return [
        grpc.method_handlers_generic_handler(
            service.full_name,
            {method.name: _handler(service, method, target, origins, most) for method in service.methods},
        )
        for service, target in services
    ]


def _handler(
    service: ServiceDescriptor,
    method: MethodDescriptor,
    target: object,
    origins: ClientAddressResolver,
    most: int,
) -> Any:
    function: Any = getattr(target, method.name, None)
    path = f"/{service.full_name}/{method.name}"
    request_class = GetMessageClass(method.input_type)
    if function is None:
        function = _unimplemented_stream(path) if method.server_streaming else _unimplemented(path)
    if method.client_streaming:
        call = _stream_call(function, path, request_class, origins, most, parsed=False)
        return grpc.stream_stream_rpc_method_handler(call, None, None)
    if method.server_streaming:
        call = _stream_call(function, path, request_class, origins, most, parsed=True)
        return grpc.unary_stream_rpc_method_handler(call, None, None)
    answer = _unary_call(function, path, request_class, origins, most)
    return grpc.unary_unary_rpc_method_handler(answer, None, None)


def _serialize(message: Message | bytes, most: int) -> bytes:
    """Encodes a response. Raises LimitExceeded if it is larger than gRPC's message limit."""
    data = message if isinstance(message, bytes) else message.SerializeToString()
    if len(data) > most:
        raise LimitExceeded(
            "message", f"the response has {len(data)} bytes; a message may have at most {most}"
        )
    return data


def _unary_call(
    function: Callable[[Any, ServicerContext], Awaitable[Any]],
    path: str,
    request_class: type[Message],
    origins: ClientAddressResolver,
    most: int,
) -> Callable[[bytes, ServicerContext], Awaitable[bytes]]:
    async def unary(data: bytes, context: ServicerContext) -> bytes:
        origins.enter(context)
        bind_request_context(context.invocation_metadata())
        request = None
        try:
            authenticated_principal()
            request = parse(request_class, data)
            answer = await function(request, context)
            encoded = _serialize(answer, most)
            if limits := rate_limits.rate_limit_metadata():
                context.set_trailing_metadata(limits)
            audit_log.record_call(path, request, answer)
            return encoded
        except asyncio.CancelledError as gone:
            audit_log.record_call(path, request, code=audit_log.status_code_name(gone))
            raise
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            audit_log.record_call(path, request, code=audit_log.status_code_name(error))
            await abort(context, error, path)
            raise  # abort has raised

    return unary


def _stream_call(
    function: Callable[[Any, ServicerContext], AsyncIterator[Any]],
    path: str,
    request_class: type[Message],
    origins: ClientAddressResolver,
    most: int,
    *,
    parsed: bool,
) -> Callable[[Any, ServicerContext], AsyncIterator[bytes]]:
    async def stream(data: Any, context: ServicerContext) -> AsyncIterator[bytes]:
        request: Any = None
        responses: Any = None
        begun = path in _NOTED_WITHIN
        origins.enter(context)
        bind_request_context(context.invocation_metadata())
        try:
            authenticated_principal()
            request = parse(request_class, data) if parsed else data
            responses = function(request, context)
            if limits := rate_limits.rate_limit_metadata():
                if parsed:
                    await context.send_initial_metadata(limits)
                else:  # initial metadata would make a sending client stop
                    context.set_trailing_metadata(limits)
            async for response in responses:
                if not begun:
                    begun = True
                    audit_log.record_call(path, request)
                yield _serialize(response, most)
            if not begun:
                audit_log.record_call(path, request)
        except asyncio.CancelledError as gone:
            if not begun:
                audit_log.record_call(path, request, code=audit_log.status_code_name(gone))
            raise
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            if not begun or path in _NOTED_WITHIN:
                audit_log.record_call(path, request, code=audit_log.status_code_name(error))
            await abort(context, error, path)
        finally:
            if responses is not None:
                await responses.aclose()

    return stream


async def abort(context: ServicerContext, error: Exception, path: str = "") -> None:
    """Ends the call with the status of an error."""
    # Before StoreUnavailable is raised, the core has waited for the store already.
    await _abort_with(context, error_status(error, path), final=isinstance(error, StoreUnavailable))


async def _abort_with(context: ServicerContext, status: Status, *, final: bool = False) -> None:
    """Ends the call with a status; `final` tells the client that its own retries are useless."""
    told: Any = rpc_status.to_status(status)  # type: ignore[no-untyped-call]
    more = (*rate_limits.rate_limit_metadata(), _NO_RETRY) if final else rate_limits.rate_limit_metadata()
    if more:
        told = told._replace(trailing_metadata=(*told.trailing_metadata, *more))
    await context.abort_with_status(told)


async def await_first(requests: AsyncIterator[bytes]) -> None:
    """Waits for the first message of a call: if the status arrives while the client still writes that
    message, the client may lose it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_SECONDS):
            await anext(requests, None)


async def stop_sending(requests: AsyncIterator[bytes], context: ServicerContext) -> None:
    """Asks the client to stop sending and waits until it does: a status that arrives while the client writes
    may be lost."""
    await context.send_initial_metadata((("portico-stop", "1"),))
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            async for _ in requests:
                pass


def _is_defect(record: logging.LogRecord) -> bool:
    """Filter that drops gRPC's log record of a caller that left while a response was written."""
    return not record.exc_info or not isinstance(record.exc_info[1], cygrpc.ExecuteBatchError)


logging.getLogger(cygrpc.__name__).addFilter(_is_defect)


def _unimplemented(path: str) -> Callable[[Any, ServicerContext], Awaitable[Any]]:
    async def unary(request: Any, context: ServicerContext) -> Any:
        audit_log.record_call(path, request, code="UNIMPLEMENTED")
        await _abort_with(context, _unimplemented_status(path))

    return unary


def _unimplemented_stream(path: str) -> Callable[[Any, ServicerContext], AsyncIterator[Any]]:
    async def stream(request: Any, context: ServicerContext) -> AsyncIterator[Any]:
        audit_log.record_call(path, request, code="UNIMPLEMENTED")
        await _abort_with(context, _unimplemented_status(path))
        yield  # makes this a generator

    return stream


def _unimplemented_status(path: str) -> Status:
    message = f"{path} is part of the contract but not implemented"
    return status_of(grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", message, {})
