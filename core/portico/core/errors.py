"""All errors of the contract that a call can end with.

Each error has a gRPC status and a reason. Services convert it to a status with
google.rpc.ErrorInfo; gateways convert that to an error of their protocol.

    PorticoError
      InvalidArgument
      NotFound: AgentNotFound, RunNotFound, SessionNotFound, StateNotFound, EndpointNotFound,
        PushConfigNotFound, KeyNotFound, MemoryNotFound
      SessionExists, IdempotencyConflict
      CursorAhead, CursorExpired
      RunTerminal, RunActive, RunNotPaused, RunNotStarted
      SessionBusy, EtagMismatch, EndpointFailed
      EndpointIsStreaming
      LimitExceeded
      Draining, StoreUnavailable: StoreFull, FencedOut
      Unauthenticated, PermissionDenied, IssuerUnavailable
      SandboxDomainError and its subclasses, in engine/sandbox_errors.py
"""

from enum import StrEnum
from typing import ClassVar, Literal


class Code(StrEnum):
    """Names of the gRPC statuses that the core uses; raising an error so needs no import of grpc."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"


class DomainError(Exception):
    """Base class. A subclass defines code and reason; an instance adds a message and metadata."""

    code: ClassVar[Code]
    reason: ClassVar[str]  # a name from portico.v1.ErrorReason, without its prefix

    def __init__(self, message: str, /, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class InvalidArgument(DomainError):
    code = Code.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}", field=field)


class AgentNotFound(DomainError):
    code = Code.NOT_FOUND
    reason = "AGENT_NOT_FOUND"

    def __init__(self, agent_name: str) -> None:
        super().__init__(f"no agent {agent_name!r}", agent_name=agent_name)


class RunNotFound(DomainError):
    code = Code.NOT_FOUND
    reason = "RUN_NOT_FOUND"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"no run {run_id!r}", run_id=run_id)


class SessionNotFound(DomainError):
    code = Code.NOT_FOUND
    reason = "SESSION_NOT_FOUND"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"no session {session_id!r}", session_id=session_id)


class MessageNotFound(DomainError):
    code = Code.NOT_FOUND
    reason = "MESSAGE_NOT_FOUND"

    def __init__(self, message_id: str) -> None:
        super().__init__(f"the session has no message {message_id!r}", message_id=message_id)


class MemoryNotFound(DomainError):
    code = Code.NOT_FOUND
    reason = "MEMORY_NOT_FOUND"

    def __init__(self, *, memory_id: str = "", key: str = "") -> None:
        if key:
            super().__init__(f"no memory has the key {key!r}", key=key)
        else:
            super().__init__(f"no memory {memory_id!r}", memory_id=memory_id)


class PushConfigNotFound(DomainError):
    code = Code.NOT_FOUND
    reason = "PUSH_CONFIG_NOT_FOUND"

    def __init__(self, config_id: str) -> None:
        super().__init__(f"the run has no push config {config_id!r}", config_id=config_id)


class KeyNotFound(DomainError):
    code = Code.NOT_FOUND
    reason = "KEY_NOT_FOUND"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"no key {key_id!r}", key_id=key_id)


class StateNotFound(DomainError):
    code = Code.NOT_FOUND
    reason = "STATE_NOT_FOUND"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"no state is saved in session {session_id!r}", session_id=session_id)


class EndpointNotFound(DomainError):
    code = Code.NOT_FOUND
    reason = "ENDPOINT_NOT_FOUND"

    def __init__(self, path: str) -> None:
        super().__init__(f"the agent has no endpoint {path!r}", path=path)


class EndpointFailed(DomainError):
    """A custom endpoint of the agent raised."""

    code = Code.ABORTED
    reason = "ENDPOINT_FAILED"

    def __init__(self, message: str, *, error_type: str) -> None:
        super().__init__(message, error_type=error_type)


class EndpointIsStreaming(DomainError):
    code = Code.FAILED_PRECONDITION
    reason = "ENDPOINT_STREAMS"

    def __init__(self, path: str) -> None:
        super().__init__(f"the endpoint {path!r} streams; call StreamEndpoint", path=path)


class SessionExists(DomainError):
    code = Code.ALREADY_EXISTS
    reason = "SESSION_EXISTS"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} exists", session_id=session_id)


class IdempotencyConflict(DomainError):
    code = Code.ALREADY_EXISTS
    reason = "IDEMPOTENCY_CONFLICT"

    def __init__(self, run_id: str) -> None:
        super().__init__("the idempotency key was used with another request", run_id=run_id)


class CursorAhead(DomainError):
    code = Code.OUT_OF_RANGE
    reason = "CURSOR_AHEAD"

    def __init__(self, run_id: str, last_sequence_number: int) -> None:
        super().__init__(
            f"the cursor is beyond the last event of the log, {last_sequence_number}",
            run_id=run_id,
            last_sequence_number=str(last_sequence_number),
        )


class CursorExpired(DomainError):
    code = Code.OUT_OF_RANGE
    reason = "CURSOR_EXPIRED"

    def __init__(self, run_id: str, first_sequence_number: int) -> None:
        super().__init__(
            f"the log begins at event {first_sequence_number}; earlier events are deleted",
            run_id=run_id,
            first_sequence_number=str(first_sequence_number),
        )


class RunTerminal(DomainError):
    code = Code.FAILED_PRECONDITION
    reason = "RUN_TERMINAL"

    def __init__(self, run_id: str, status: str) -> None:
        super().__init__(f"the run has ended: {status}", run_id=run_id, status=status)


class RunActive(DomainError):
    code = Code.FAILED_PRECONDITION
    reason = "RUN_ACTIVE"

    def __init__(self, run_id: str) -> None:
        super().__init__("the run is live; cancel it first", run_id=run_id)


class RunNotPaused(DomainError):
    code = Code.FAILED_PRECONDITION
    reason = "RUN_NOT_PAUSED"

    def __init__(self, run_id: str, problem: str = "the run is not paused for input") -> None:
        super().__init__(problem, run_id=run_id)


class RunNotStarted(DomainError):
    code = Code.FAILED_PRECONDITION
    reason = "RUN_NOT_STARTED"

    def __init__(self, run_id: str) -> None:
        super().__init__("the run is still queued; it can't start child runs yet", run_id=run_id)


class SessionBusy(DomainError):
    code = Code.ABORTED
    reason = "SESSION_BUSY"

    def __init__(self, session_id: str, run_id: str) -> None:
        super().__init__("the session has a live run", session_id=session_id, run_id=run_id)


class EtagMismatch(DomainError):
    code = Code.ABORTED
    reason = "ETAG_MISMATCH"

    def __init__(self, etag: str) -> None:
        super().__init__("the etag does not match: the value was changed; read it again", etag=etag)


class LimitExceeded(DomainError):
    code = Code.RESOURCE_EXHAUSTED
    reason = "LIMIT_EXCEEDED"

    def __init__(self, limit: str, message: str, *, retry_after: float | None = None) -> None:
        """`limit` is the name of the limit; `retry_after` the seconds until a retry may succeed, if known."""
        retry = {} if retry_after is None else {"retry_after_seconds": f"{retry_after:.3g}"}
        super().__init__(message, limit=limit, **retry)


class Draining(DomainError):
    code = Code.UNAVAILABLE
    reason = "DRAINING"

    def __init__(self) -> None:
        super().__init__("the core is shutting down; try again, or resume from the last event received")


class StoreUnavailable(DomainError):
    code = Code.UNAVAILABLE
    reason = "STORE_UNAVAILABLE"

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class FencedOut(StoreUnavailable):
    """Another core has taken over the database. This one can't write any more and ends."""

    def __init__(self) -> None:
        super().__init__("another core has taken over the database; this one ends")


class StoreFull(StoreUnavailable):
    """The disk is full. Operations that free space may use the reserve."""


class Unauthenticated(DomainError):
    """The credential is missing or invalid. Only the log has the exact reason."""

    code = Code.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"

    def __init__(
        self,
        problem: str = "the credential is invalid, expired or revoked",
        *,
        why: Literal["missing", "malformed", "unknown", "expired", "revoked", "invalid"] = "unknown",
    ) -> None:
        """`why` is for the operator's metrics; the caller does not receive it."""
        super().__init__(problem)
        self.why = why


class PermissionDenied(DomainError):
    """The credential is valid but does not allow this call."""

    code = Code.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"

    def __init__(self, problem: str, **metadata: str) -> None:
        super().__init__(problem, **metadata)


class IssuerUnavailable(DomainError):
    code = Code.UNAVAILABLE
    reason = "ISSUER_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("the public keys of the token's issuer can't be read at the moment; try again")
