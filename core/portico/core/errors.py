"""The one table of what can go wrong in a call, and how it is told.

An error names its gRPC status and its reason; services turn it into a status
with google.rpc.ErrorInfo, gateways turn that into their protocol's own error.

    PorticoError
      InvalidArgument
      NotFound: AgentNotFound, RunNotFound, SessionNotFound, StateNotFound, EndpointNotFound,
        PushConfigNotFound, KeyNotFound, MemoryNotFound
      SessionExists, IdempotencyConflict
      CursorAhead, CursorExpired
      RunTerminal, RunActive, RunNotPaused, RunNotStarted
      SessionBusy, EtagMismatch, EndpointFailed
      EndpointStreams
      LimitExceeded
      Draining, StoreUnavailable: StoreFull, FencedOut
      Unauthenticated, PermissionDenied, IssuerUnavailable
      SandboxProblem and its kinds, in engine/sandbox_errors.py
"""

from enum import StrEnum
from typing import ClassVar, Literal


class Code(StrEnum):
    """The gRPC status names the core uses; no grpc import is needed to raise one."""

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


class PorticoError(Exception):
    """Base class. A subclass fixes code and reason; an instance adds metadata."""

    code: ClassVar[Code]
    reason: ClassVar[str]  # a name from portico.v1.ErrorReason, less its prefix

    def __init__(self, message: str, /, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class InvalidArgument(PorticoError):
    code = Code.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}", field=field)


class AgentNotFound(PorticoError):
    code = Code.NOT_FOUND
    reason = "AGENT_NOT_FOUND"

    def __init__(self, agent_name: str) -> None:
        super().__init__(f"no agent {agent_name!r}", agent_name=agent_name)


class RunNotFound(PorticoError):
    code = Code.NOT_FOUND
    reason = "RUN_NOT_FOUND"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"no run {run_id!r}", run_id=run_id)


class SessionNotFound(PorticoError):
    code = Code.NOT_FOUND
    reason = "SESSION_NOT_FOUND"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"no session {session_id!r}", session_id=session_id)


class MessageNotFound(PorticoError):
    code = Code.NOT_FOUND
    reason = "MESSAGE_NOT_FOUND"

    def __init__(self, message_id: str) -> None:
        super().__init__(f"the session has no message {message_id!r}", message_id=message_id)


class MemoryNotFound(PorticoError):
    code = Code.NOT_FOUND
    reason = "MEMORY_NOT_FOUND"

    def __init__(self, *, memory_id: str = "", key: str = "") -> None:
        if key:
            super().__init__(f"no memory has the key {key!r}", key=key)
        else:
            super().__init__(f"no memory {memory_id!r}", memory_id=memory_id)


class PushConfigNotFound(PorticoError):
    code = Code.NOT_FOUND
    reason = "PUSH_CONFIG_NOT_FOUND"

    def __init__(self, config_id: str) -> None:
        super().__init__(f"the run has no push config {config_id!r}", config_id=config_id)


class KeyNotFound(PorticoError):
    code = Code.NOT_FOUND
    reason = "KEY_NOT_FOUND"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"no key {key_id!r}", key_id=key_id)


class StateNotFound(PorticoError):
    code = Code.NOT_FOUND
    reason = "STATE_NOT_FOUND"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"no state is saved in session {session_id!r}", session_id=session_id)


class EndpointNotFound(PorticoError):
    code = Code.NOT_FOUND
    reason = "ENDPOINT_NOT_FOUND"

    def __init__(self, path: str) -> None:
        super().__init__(f"the agent has no endpoint {path!r}", path=path)


class EndpointFailed(PorticoError):
    """A custom endpoint of the agent raised."""

    code = Code.ABORTED
    reason = "ENDPOINT_FAILED"

    def __init__(self, message: str, *, error_type: str) -> None:
        super().__init__(message, error_type=error_type)


class EndpointStreams(PorticoError):
    code = Code.FAILED_PRECONDITION
    reason = "ENDPOINT_STREAMS"

    def __init__(self, path: str) -> None:
        super().__init__(f"the endpoint {path!r} streams; call StreamEndpoint", path=path)


class SessionExists(PorticoError):
    code = Code.ALREADY_EXISTS
    reason = "SESSION_EXISTS"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} exists", session_id=session_id)


class IdempotencyConflict(PorticoError):
    code = Code.ALREADY_EXISTS
    reason = "IDEMPOTENCY_CONFLICT"

    def __init__(self, run_id: str) -> None:
        super().__init__("the idempotency key was used with another request", run_id=run_id)


class CursorAhead(PorticoError):
    code = Code.OUT_OF_RANGE
    reason = "CURSOR_AHEAD"

    def __init__(self, run_id: str, last_sequence_number: int) -> None:
        super().__init__(
            f"the cursor is beyond the last event of the log, {last_sequence_number}",
            run_id=run_id,
            last_sequence_number=str(last_sequence_number),
        )


class CursorExpired(PorticoError):
    code = Code.OUT_OF_RANGE
    reason = "CURSOR_EXPIRED"

    def __init__(self, run_id: str, first_sequence_number: int) -> None:
        super().__init__(
            f"the log begins at {first_sequence_number}; what was before is gone",
            run_id=run_id,
            first_sequence_number=str(first_sequence_number),
        )


class RunTerminal(PorticoError):
    code = Code.FAILED_PRECONDITION
    reason = "RUN_TERMINAL"

    def __init__(self, run_id: str, status: str) -> None:
        super().__init__(f"the run has ended: {status}", run_id=run_id, status=status)


class RunActive(PorticoError):
    code = Code.FAILED_PRECONDITION
    reason = "RUN_ACTIVE"

    def __init__(self, run_id: str) -> None:
        super().__init__("the run is live; cancel it first", run_id=run_id)


class RunNotPaused(PorticoError):
    code = Code.FAILED_PRECONDITION
    reason = "RUN_NOT_PAUSED"

    def __init__(self, run_id: str, problem: str = "the run does not wait for input") -> None:
        super().__init__(problem, run_id=run_id)


class RunNotStarted(PorticoError):
    code = Code.FAILED_PRECONDITION
    reason = "RUN_NOT_STARTED"

    def __init__(self, run_id: str) -> None:
        super().__init__("the run waits for its turn; it can't start others yet", run_id=run_id)


class SessionBusy(PorticoError):
    code = Code.ABORTED
    reason = "SESSION_BUSY"

    def __init__(self, session_id: str, run_id: str) -> None:
        super().__init__("the session has a live run", session_id=session_id, run_id=run_id)


class EtagMismatch(PorticoError):
    code = Code.ABORTED
    reason = "ETAG_MISMATCH"

    def __init__(self, etag: str) -> None:
        super().__init__("somebody else wrote first; read again", etag=etag)


class LimitExceeded(PorticoError):
    code = Code.RESOURCE_EXHAUSTED
    reason = "LIMIT_EXCEEDED"

    def __init__(self, limit: str, message: str, *, retry_after: float | None = None) -> None:
        """`retry_after`, in seconds, is told if it is known when there may be room."""
        retry = {} if retry_after is None else {"retry_after_seconds": f"{retry_after:.3g}"}
        super().__init__(message, limit=limit, **retry)


class Draining(PorticoError):
    code = Code.UNAVAILABLE
    reason = "DRAINING"

    def __init__(self) -> None:
        super().__init__("the core is shutting down; try again, or resume from your last event")


class StoreUnavailable(PorticoError):
    code = Code.UNAVAILABLE
    reason = "STORE_UNAVAILABLE"

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class FencedOut(StoreUnavailable):
    """Another core has taken over the database. This one can write nothing more, now or later, and ends."""

    def __init__(self) -> None:
        super().__init__("another core has taken over the database; this one ends")


class StoreFull(StoreUnavailable):
    """The disk has no room: what makes some may have the reserve's."""


class Unauthenticated(PorticoError):
    """The credential is missing or not good. What exactly is wrong with one only the log says."""

    code = Code.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"

    def __init__(
        self,
        problem: str = "the credential is not valid, or not any more",
        *,
        why: Literal["missing", "malformed", "unknown", "expired", "revoked", "invalid"] = "unknown",
    ) -> None:
        """`why` is for the operator; the caller is not told."""
        super().__init__(problem)
        self.why = why


class PermissionDenied(PorticoError):
    """The credential is good and does not allow this, whatever there is."""

    code = Code.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"

    def __init__(self, problem: str, **metadata: str) -> None:
        super().__init__(problem, **metadata)


class IssuerUnavailable(PorticoError):
    code = Code.UNAVAILABLE
    reason = "ISSUER_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("the keys of the tokens' issuer can't be read now; try again")
