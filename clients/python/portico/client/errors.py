"""What a call can raise. No grpc exception leaves the client.

An error carries the gRPC code, the contract's reason (a name from
portico.v1.ErrorReason, less its prefix; empty when the server gave none) and
the reason's metadata. Branch on the class or the reason, never on the text.

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
# What grpc.aio reports when a stream ends under a write, in place of the status that ended it.
_LOST_WHILE_WRITING = "Internal error from Core"


class PorticoError(Exception):
    """Base class. A subclass fixes the code that an instance has unless told otherwise."""

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
    """A field is missing, out of range, too large or malformed; metadata names it."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(PorticoError):
    """What the call names does not exist, or is not the caller's."""

    default_code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(PorticoError):
    """The session exists, or the idempotency key was used with another request."""

    default_code = grpc.StatusCode.ALREADY_EXISTS


class OutOfRange(PorticoError):
    """The cursor is not within the run's log."""

    default_code = grpc.StatusCode.OUT_OF_RANGE


class CursorAhead(OutOfRange):
    """The cursor is beyond the last event of the log."""


class CursorExpired(OutOfRange):
    """The cursor is before what retention has kept."""


class FailedPrecondition(PorticoError):
    """The run is not in the state that the call needs."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(PorticoError):
    """Somebody else's work is in the way."""

    default_code = grpc.StatusCode.ABORTED


class SessionBusy(Aborted):
    """The session has a live run; metadata names it."""


class EtagMismatch(Aborted):
    """Somebody else wrote first; metadata has the stored etag."""


class ResourceExhausted(PorticoError):
    """A limit of the server or of this client was reached."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(PorticoError):
    """The core can't be reached, drains, or can't use its store; try again later."""

    default_code = grpc.StatusCode.UNAVAILABLE


class HandshakeFailed(Unavailable):
    """There can be no TLS with the core: one side refuses the other's certificate, or does not speak TLS. The
    message says which. To try again does not help."""


class ClosedEarly(Unavailable):
    """The core has closed a connection as it began: it may be ending, want TLS, or want a certificate of this
    client that it trusts."""

    def __init__(self, *, after_handshake: bool) -> None:
        super().__init__(
            "the core closes the connection as it begins. If it always does, it may want TLS, or a "
            "certificate of this client that it trusts"
        )
        self.after_handshake = after_handshake  # this side's, if it uses TLS at all


# Of Unavailable: the core is not there, or goes. For everything else it has waited as long as that can help.
_PASSING = frozenset(("", "DRAINING"))


def passes(error: PorticoError) -> bool:
    """Whether the same call may well succeed in a moment, here or at another core."""
    again = isinstance(error, Unavailable) and not isinstance(error, HandshakeFailed)
    return again and error.reason in _PASSING


class Unimplemented(PorticoError):
    """The core does not have the method."""

    default_code = grpc.StatusCode.UNIMPLEMENTED


class DeadlineExceeded(PorticoError):
    """The call's own timeout passed."""

    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class Cancelled(PorticoError):
    """The client was closed under the call."""

    default_code = grpc.StatusCode.CANCELLED


class PermissionDenied(PorticoError):
    """The credential is good but does not allow the call."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class Unauthenticated(PorticoError):
    """The credential is missing or not valid."""

    default_code = grpc.StatusCode.UNAUTHENTICATED


class Internal(PorticoError):
    """A defect of the server; metadata has the request id to quote."""

    default_code = grpc.StatusCode.INTERNAL


class ProtocolError(Internal):
    """The server broke the contract: an event was missing, doubled or out of order."""


class RunFailed(PorticoError):
    """The call went well but the run failed or was rejected; the reason is the run's error code."""


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
    """The error of the tree that fits the reason, or else the code."""
    if code is grpc.StatusCode.CANCELLED:
        # Nobody here cancelled: a server that stops sends this to the calls it drops.
        code = grpc.StatusCode.UNAVAILABLE
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, PorticoError)
    return kind(message, code, reason, metadata)


def error_from_rpc(error: grpc.aio.AioRpcError) -> PorticoError:
    """What a failed call means in the contract's terms."""
    code = error.code()
    message = error.details() or code.name
    rate_limits.from_metadata(error.trailing_metadata(), rate_limits.observer())
    if code is grpc.StatusCode.INTERNAL and message == _LOST_WHILE_WRITING:
        code, message = grpc.StatusCode.UNAVAILABLE, "the connection was lost"
    try:
        status = rpc_status.from_call(error)  # type: ignore[no-untyped-call]
    except ValueError:
        # A proxy rewrote the status and left the details; they describe another error.
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
    """What the end of a multiplexed stream means, as if its call had failed."""
    code = _CODES.get(end.code, grpc.StatusCode.UNKNOWN)
    return build_error(code, end.message or code.name, end.reason, end.metadata)


@contextmanager
def typed_errors() -> Iterator[None]:
    """Turns what grpc raises inside the block into a PorticoError."""
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
        # Nobody cancelled the task: grpc raises this for a call that ended with its channel.
        raise Cancelled("the client was closed") from None
