"""Metrics of calls refused for their credential or a rate limit; the credential itself is never recorded."""

from portico.core.errors import (
    DomainError,
    IssuerUnavailable,
    LimitExceeded,
    PermissionDenied,
    Unauthenticated,
)
from portico.telemetry.metrics.counters import Counters


class RefusalMetrics:
    """Counters of one core. Label values come from a fixed set, never from callers."""

    def __init__(self) -> None:
        self._credentials = Counters(
            "portico.credentials.refused",
            "{call}",
            "Calls, and streams of a multiplexed connection, whose credential is not accepted.",
            "reason",
        )
        self._limited = Counters(
            "portico.calls.limited",
            "{call}",
            "Calls, and streams of a multiplexed connection, above the rate limit of a tenant or user.",
            "limit",
        )

    def note(self, error: DomainError) -> None:
        """Counts a call that was refused before it reached a service."""
        match error:
            case Unauthenticated():
                self._credentials.add(error.why)
            case PermissionDenied():
                self._credentials.add("scope")
            case IssuerUnavailable():
                self._credentials.add("issuer_unavailable")
            case LimitExceeded():
                self._limited.add(error.metadata["limit"])
