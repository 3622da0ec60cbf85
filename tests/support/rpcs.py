"""Every method of the contract, and a way to call one with bytes."""

import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor

import portico.v1

MODULES = [
    importlib.import_module(f"portico.v1.{module.name}")
    for module in pkgutil.iter_modules(portico.v1.__path__)
    if module.name.endswith("_pb2")
]
METHODS: Sequence[MethodDescriptor] = [
    method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
# The permitted errors for any request; a stream may also exceed the caller's deadline.
TYPED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


async def call(
    channel: Any, method: MethodDescriptor, bodies: Sequence[bytes], timeout: float, responses: int = 10_000
) -> grpc.aio.AioRpcError | None:
    """Returns the error that ends the call, if any; reads at most this many responses of a stream."""
    try:
        if not method.client_streaming and not method.server_streaming:
            await channel.unary_unary(path_of(method))(bodies[0], timeout=timeout)
            return None
        if not method.server_streaming:
            await channel.stream_unary(path_of(method))(iter(bodies), timeout=timeout)
            return None
        stream = (
            channel.stream_stream(path_of(method))(iter(bodies), timeout=timeout)
            if method.client_streaming
            else channel.unary_stream(path_of(method))(bodies[0], timeout=timeout)
        )
        try:
            for _ in range(responses):
                if await stream.read() is grpc.aio.EOF:
                    break
        finally:
            stream.cancel()
    except grpc.aio.AioRpcError as error:
        # gRPC's client reports this when it still sends after the answer, which is lost.
        return None if "execute_batch" in str(error.debug_error_string()) else error
    return None


def found_in(error: grpc.aio.AioRpcError, words: Iterable[str]) -> list[str]:
    """Returns the words that the error contains."""
    return [word for word in words if word in str(error.details())]
