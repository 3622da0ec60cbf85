"""A2A's errors: converts errors of the core and unexpected exceptions."""

import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, TypeVar
from uuid import uuid4

import grpc
from a2a.server.context import ServerCallContext
from a2a.utils.errors import (
    A2A_ERROR_MAPPING,
    A2A_ERROR_REASONS,
    A2AError,
    ErrorMapping,
    InternalError,
    InvalidParamsError,
    JSONParseError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.proto_utils import validate_proto_required_fields
from google.protobuf.message import Message

from portico.client import PorticoError
from portico.gateways.http.errors import CHALLENGE, RETRY_SECONDS, retry_after

log = logging.getLogger(__name__)

REFUSED = "portico.refused"  # key in a call context's state: the error that ended the call
S = TypeVar("S")
P = TypeVar("P", bound=Message)
T = TypeVar("T")


class UnavailableError(A2AError):
    """The core is unreachable, draining or overloaded; the same call may succeed later."""

    message = "The agent is not available"


class OverLimitError(A2AError):
    """The caller has reached a limit."""

    message = "A limit is reached"


class UnauthenticatedError(A2AError):
    """The credential is missing or invalid."""

    message = "The credential is missing or not valid"


class ForbiddenError(A2AError):
    """The credential is valid but does not permit the call."""

    message = "The credential does not allow this"


# The SDK maps errors by class; these classes are ours.
_OURS = {
    UnavailableError: ErrorMapping(503, "UNAVAILABLE", "UNAVAILABLE"),
    OverLimitError: ErrorMapping(429, "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"),
    UnauthenticatedError: ErrorMapping(401, "UNAUTHENTICATED", "UNAUTHENTICATED"),
    ForbiddenError: ErrorMapping(403, "PERMISSION_DENIED", "PERMISSION_DENIED"),
    JSONParseError: ErrorMapping(400, "INVALID_ARGUMENT", "PARSE_ERROR"),
}
A2A_ERROR_MAPPING.update(_OURS)
A2A_ERROR_REASONS.update({kind: mapping.reason for kind, mapping in _OURS.items()})

# A2A's names for fields of the core's requests.
_FIELDS = {
    "request.session_id": "message.context_id",
    "request.request_id": "message.message_id",
    "request.input": "message",
    "request.accepted_output_modes": "configuration.accepted_output_modes",
}


def invalid(field: str, problem: str) -> InvalidParamsError:
    """Returns the error for an invalid parameter."""
    return InvalidParamsError(
        message=f"{field}: {problem}", data={"errors": [{"field": field, "message": problem}]}
    )


def from_core(error: PorticoError) -> A2AError:
    """Converts an error of the core."""
    match error.code:
        case grpc.StatusCode.NOT_FOUND if error.reason == "AGENT_NOT_FOUND":
            return invalid("tenant", "unknown agent")
        case grpc.StatusCode.NOT_FOUND:
            return TaskNotFoundError(data=_told(error))
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE:
            field = error.metadata.get("field", "")
            name, bracket, index = field.partition("[")
            told = _FIELDS.get(name, name) + bracket + index
            return invalid(told, error.message.removeprefix(f"{field}: "))
        case grpc.StatusCode.FAILED_PRECONDITION | grpc.StatusCode.ABORTED | grpc.StatusCode.ALREADY_EXISTS:
            return UnsupportedOperationError(message=error.message, data=_told(error))
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return OverLimitError(message=error.message, data={**_told(error), **retry_after(error.metadata)})
        case grpc.StatusCode.UNAUTHENTICATED:
            return UnauthenticatedError()
        case grpc.StatusCode.PERMISSION_DENIED:
            return ForbiddenError()
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED | grpc.StatusCode.CANCELLED:
            cause = {"cause": error.reason} if error.reason else {}
            message = "The agent is not available now; try again"
            return UnavailableError(message=message, data={**_told(error), **cause})
    return from_defect(error)


def _told(error: PorticoError) -> dict[str, str]:
    names = {"run_id": "taskId", "session_id": "contextId", "config_id": "id"}
    return {names[name]: value for name, value in error.metadata.items() if name in names}


def from_defect(error: BaseException) -> InternalError:
    """Logs an unexpected exception, and returns an internal error with an id to find it in the log."""
    request_id = uuid4().hex
    log.error("request %s failed", request_id, exc_info=error)
    return InternalError(
        message=f"Internal error; quote request {request_id} to the operator", data={"requestId": request_id}
    )


def refusal_of(error: A2AError | None) -> tuple[int, Mapping[str, str] | None] | None:
    """Returns the HTTP status and headers of errors that must also show in HTTP: credentials, limits,
    unavailability. None for all others.
    """
    if isinstance(error, OverLimitError):
        retry = (error.data or {}).get("retry-after", RETRY_SECONDS[429])
        return 429, {"retry-after": retry}
    if isinstance(error, UnavailableError):
        return 503, {"retry-after": RETRY_SECONDS[503]}
    if isinstance(error, UnauthenticatedError):
        return 401, CHALLENGE
    return (403, None) if isinstance(error, ForbiddenError) else None


def as_a2a(error: Exception) -> A2AError:
    """Converts an exception to an error for the caller."""
    if isinstance(error, A2AError):
        return error
    return from_core(error) if isinstance(error, PorticoError) else from_defect(error)


def unary(
    method: Callable[[S, P, ServerCallContext], Coroutine[Any, Any, T]],
) -> Callable[[S, P, ServerCallContext], Coroutine[Any, Any, T]]:
    """Decorates a method of the request handler: checks required fields, and converts all exceptions to
    A2AError.
    """

    @wraps(method)
    async def guarded(self: S, params: P, context: ServerCallContext) -> T:
        try:
            validate_proto_required_fields(params)
            return await method(self, params, context)
        except Exception as error:
            told = context.state[REFUSED] = as_a2a(error)
            raise told from None

    return guarded


def streaming(
    method: Callable[[S, P, ServerCallContext], AsyncGenerator[T, None]],
) -> Callable[[S, P, ServerCallContext], AsyncGenerator[T, None]]:
    """Decorates a streaming method of the request handler, like `unary`."""

    @wraps(method)
    async def guarded(self: S, params: P, context: ServerCallContext) -> AsyncGenerator[T, None]:
        items = None
        try:
            validate_proto_required_fields(params)
            items = method(self, params, context)
            async for item in items:
                yield item
        except Exception as error:
            told = context.state[REFUSED] = as_a2a(error)
            raise told from None
        finally:
            if items is not None:
                await items.aclose()

    return guarded
