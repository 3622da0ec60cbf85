"""The gRPC binding: the services of both versions, on one port of their own."""

import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
import grpc.aio
from a2a.compat.v0_3 import a2a_v0_3_pb2, a2a_v0_3_pb2_grpc
from a2a.compat.v0_3.grpc_handler import CompatGrpcHandler
from a2a.server.request_handlers.grpc_handler import GrpcHandler
from a2a.types import a2a_pb2, a2a_pb2_grpc
from a2a.utils.constants import PROTOCOL_VERSION_0_3, PROTOCOL_VERSION_1_0
from a2a.utils.errors import A2A_ERROR_MAPPING, A2AError, ErrorMapping, InvalidParamsError
from a2a.utils.proto_utils import validation_errors_to_bad_request
from google.protobuf.any_pb2 import Any as AnyProto
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from portico.client.connection import METADATA_BYTES
from portico.gateways.a2a.call_context import GrpcContexts
from portico.gateways.a2a.errors import as_a2a
from portico.gateways.a2a.request_handler import A2aRequestHandler
from portico.telemetry.tracing.rpc_telemetry import RpcTelemetry, TelemetryInterceptor

log = logging.getLogger(__name__)

DOMAIN = "a2a-protocol.org"
STOP_SECONDS = 2.0
Context: TypeAlias = "grpc.aio.ServicerContext"
T = TypeVar("T")

_INTERNAL = ErrorMapping(500, "INTERNAL", "INTERNAL_ERROR")


def status_of(error: A2AError) -> Status:
    """Converts an error to a status with google.rpc.ErrorInfo, and google.rpc.BadRequest for invalid
    fields.
    """
    mapping = A2A_ERROR_MAPPING.get(type(error), _INTERNAL)
    status = Status(code=grpc.StatusCode[mapping.grpc_status].value[0], message=error.message)
    data = error.data if isinstance(error.data, dict) else {}
    metadata = {name: value for name, value in data.items() if isinstance(value, str)}
    details: list[Any] = [ErrorInfo(reason=mapping.reason, domain=DOMAIN, metadata=metadata)]
    if isinstance(error, InvalidParamsError) and data.get("errors"):
        details.append(validation_errors_to_bad_request(data["errors"]))
    for detail in details:
        packed = AnyProto()
        packed.Pack(detail)
        status.details.append(packed)
    return status


async def _abort(context: Context, error: Exception) -> NoReturn:
    status = rpc_status.to_status(status_of(as_a2a(error)))  # type: ignore[no-untyped-call]
    await context.abort_with_status(status)
    raise AssertionError("a call that is aborted does not go on")


async def _told(work: Awaitable[T], context: Context) -> T:
    """Awaits a call and converts every exception to a status with details, which the SDK's handlers do only
    for some.
    """
    try:
        return await work
    except grpc.aio.AbortError:
        raise
    except Exception as error:
        return await _abort(context, error)


async def _told_all(items: AsyncIterable[T], context: Context) -> AsyncGenerator[T, None]:
    try:
        async for item in items:
            yield item
    except grpc.aio.AbortError:
        raise
    except Exception as error:
        await _abort(context, error)
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


class _Service(GrpcHandler):
    """The service of A2A 1.0."""

    async def _handle_unary(self, request: Any, context: Context, handler_func: Any, default: Any) -> Any:
        return await _told(super()._handle_unary(request, context, handler_func, default), context)

    async def _handle_stream(self, request: Any, context: Context, handler_func: Any) -> AsyncIterator[Any]:
        async for item in _told_all(super()._handle_stream(request, context, handler_func), context):
            yield item

    async def abort_context(self, error: A2AError, context: Context) -> None:
        await _abort(context, error)


class _OldService(CompatGrpcHandler):
    """The service of A2A 0.3."""

    async def _handle_unary(self, context: Context, handler_func: Any, default_response: Any) -> Any:
        return await _told(super()._handle_unary(context, handler_func, default_response), context)

    async def _handle_stream(self, context: Context, handler_func: Any) -> AsyncIterator[Any]:
        async for item in _told_all(super()._handle_stream(context, handler_func), context):
            yield item

    async def abort_context(self, error: A2AError, context: Context) -> None:
        await _abort(context, error)


class GrpcBinding:
    """A gRPC server on its own address."""

    def __init__(
        self,
        handler: A2aRequestHandler,
        address: str,
        max_message_bytes: int,
        tls: grpc.ServerCredentials | None = None,
    ) -> None:
        """Raises OSError if the address is in use or invalid."""
        calls = RpcTelemetry()
        self._server = grpc.aio.server(
            interceptors=[TelemetryInterceptor(calls, "/")] if calls.seen else [],
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_metadata_size", METADATA_BYTES),
                ("grpc.absolute_max_metadata_size", METADATA_BYTES),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        a2a_pb2_grpc.add_A2AServiceServicer_to_server(  # type: ignore[no-untyped-call]
            _Service(handler, GrpcContexts(PROTOCOL_VERSION_1_0)), self._server
        )
        a2a_v0_3_pb2_grpc.add_A2AServiceServicer_to_server(  # type: ignore[no-untyped-call]
            _OldService(handler, GrpcContexts(PROTOCOL_VERSION_0_3)), self._server
        )
        names = [file.DESCRIPTOR.services_by_name["A2AService"].full_name for file in (a2a_pb2, a2a_v0_3_pb2)]
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self._server)  # type: ignore[no-untyped-call]
        try:
            if tls is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, tls)
        except RuntimeError:
            other = "" if tls is None else ", or gRPC can't use the certificate"
            raise OSError(f"can't listen on {address}: it is in use, or invalid{other}") from None

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        """Stops the server; calls get STOP_SECONDS to end."""
        await self._server.stop(STOP_SECONDS)
