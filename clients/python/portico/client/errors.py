"""The exceptions that calls can raise. No grpc exception leaves the client.

An error has the gRPC code, the contract's reason (a name from portico.v1.ErrorReason without its prefix;
empty when the server sent none) and the reason's metadata. Branch on the class or the reason, never on
the text.

    PorticoError
      InvalidArgument
      NotFound
      AlreadyExists
      OutOfRange: CursorAhead, CursorExpired
      FailedPrecondition
      Aborted: SessionBusy, EtagMismatch
      ResourceExhausted
      Unavailable: ClosedEarly, HandshakeFailed
      Unimplemented
      DeadlineExceeded
      Cancelled
      PermissionDenied
      Unauthenticated
      Internal: ProtocolError
      RunFailed
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from portico.client import handshake_errors, rate_limits
from portico.v1 import query_pb2

_DOMAIN = "portico"
# grpc.aio reports this, instead of the status, when a stream ends during a write.
_LOST_WHILE_WRITING = "Internal error from Core"


class PorticoError(Exception):
    """Base class of all errors. A subclass sets the default code of its instances."""

    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.reason = reason
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        return f"{self.message} ({self.reason or self.code.name})"


class InvalidArgument(PorticoError):
    """A field is missing, out of range, too large or malformed; the metadata names it."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(PorticoError):
    """The resource does not exist, or belongs to another caller."""

    default_code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(PorticoError):
    """The session already exists, or the idempotency key was used with another request."""

    default_code = grpc.StatusCode.ALREADY_EXISTS


class OutOfRange(PorticoError):
    """The cursor is outside the run's log."""

    default_code = grpc.StatusCode.OUT_OF_RANGE


class CursorAhead(OutOfRange):
    """The cursor is beyond the last event of the log."""


class CursorExpired(OutOfRange):
    """The cursor is before the first event that retention has kept."""


class FailedPrecondition(PorticoError):
    """The resource is not in the state that the call requires."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(PorticoError):
    """A concurrent operation prevents the call."""

    default_code = grpc.StatusCode.ABORTED


class SessionBusy(Aborted):
    """The session has a live run; the metadata names it."""


class EtagMismatch(Aborted):
    """The state was changed by another writer; the metadata has the stored etag."""


class ResourceExhausted(PorticoError):
    """A limit of the server or of this client was reached."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(PorticoError):
    """The core is unreachable, drains, or cannot use its store; try again later."""

    default_code = grpc.StatusCode.UNAVAILABLE


class HandshakeFailed(Unavailable):
    """The TLS handshake with the core failed: one side refuses the other's certificate or does not speak
    TLS.

    The message gives the cause. Retrying does not help.
    """


class ClosedEarly(Unavailable):
    """The core closed a connection while it was being set up.

    The core may be stopping, may require TLS, or may require a client certificate that it trusts.
    """

    def __init__(self, *, after_handshake: bool) -> None:
        super().__init__(
            "the core closes new connections. If it always does, it may require TLS, "
            "or a client certificate that it trusts"
        )
        self.after_handshake = after_handshake  # also true without TLS


# Of the kinds of Unavailable: the core is stopped or stopping. For other codes the core has already waited
# as long as waiting can help.
_PASSING = frozenset(("", "DRAINING"))


def is_transient(error: PorticoError) -> bool:
    """Returns whether the same call may succeed shortly, at this core or at another one."""
    again = isinstance(error, Unavailable) and not isinstance(error, HandshakeFailed)
    return again and error.reason in _PASSING


class Unimplemented(PorticoError):
    """The core does not implement the method."""

    default_code = grpc.StatusCode.UNIMPLEMENTED


class DeadlineExceeded(PorticoError):
    """The call's own timeout expired."""

    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class Cancelled(PorticoError):
    """The client was closed during the call."""

    default_code = grpc.StatusCode.CANCELLED


class PermissionDenied(PorticoError):
    """The credential is valid but does not permit the call."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class Unauthenticated(PorticoError):
    """The credential is missing or invalid."""

    default_code = grpc.StatusCode.UNAUTHENTICATED


class Internal(PorticoError):
    """A defect of the server; the metadata has the request id for a report."""

    default_code = grpc.StatusCode.INTERNAL


class ProtocolError(Internal):
    """The server violated the contract: an event was missing, duplicated or out of order."""


class RunFailed(PorticoError):
    """The call succeeded but the run failed or was rejected; the reason is the run's error code."""


_BY_CODE: dict[grpc.StatusCode, type[PorticoError]] = {
    kind.default_code: kind for kind in PorticoError.__subclasses__() if "default_code" in vars(kind)
}
_BY_REASON: dict[str, type[PorticoError]] = {
    "CURSOR_AHEAD": CursorAhead,
    "CURSOR_EXPIRED": CursorExpired,
    "SESSION_BUSY": SessionBusy,
    "ETAG_MISMATCH": EtagMismatch,
}
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def build_error(
    code: grpc.StatusCode, message: str, reason: str, metadata: Mapping[str, str]
) -> PorticoError:
    """Returns an instance of the class for the reason, or for the code if the reason has no class."""
    if code is grpc.StatusCode.CANCELLED:
        # This client did not cancel: a server that stops sends CANCELLED for the calls that it drops.
        code = grpc.StatusCode.UNAVAILABLE
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, PorticoError)
    return kind(message, code, reason, metadata)


def error_from_rpc(error: grpc.aio.AioRpcError) -> PorticoError:
    """Converts a grpc error of a failed call into a PorticoError."""
    code = error.code()
    message = error.details() or code.name
    rate_limits.from_metadata(error.trailing_metadata(), rate_limits.observer())
    if code is grpc.StatusCode.INTERNAL and message == _LOST_WHILE_WRITING:
        code, message = grpc.StatusCode.UNAVAILABLE, "the connection was lost"
    try:
        status = rpc_status.from_call(error)  # type: ignore[no-untyped-call]
    except ValueError:
        # A proxy rewrote the status but kept the details, which describe another error.
        status = None
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == _DOMAIN:
            return build_error(code, message, info.reason, info.metadata)
    if code is grpc.StatusCode.UNAVAILABLE:
        if problem := handshake_errors.handshake_error(message):
            return HandshakeFailed(problem)
        if (after_handshake := handshake_errors.closed_early(message)) is not None:
            return ClosedEarly(after_handshake=after_handshake)
    return build_error(code, message, "", {})


def error_from_stream_end(end: query_pb2.StreamEnd) -> PorticoError:
    """Converts the end of a multiplexed stream into the error of a failed call."""
    code = _CODES.get(end.code, grpc.StatusCode.UNKNOWN)
    return build_error(code, end.message or code.name, end.reason, end.metadata)


@contextmanager
def typed_errors() -> Iterator[None]:
    """Converts grpc exceptions raised inside the block into a PorticoError."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from None
    except grpc.aio.UsageError as error:
        raise Cancelled(f"the client is closed: {error}") from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # The task was not cancelled: grpc raises CancelledError for a call whose channel was closed.
        raise Cancelled("the client was closed") from None
