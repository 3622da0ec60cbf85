"""Calls that are refused for their credential or for their number, counted; never with the credential."""

from portico.core.errors import (
    IssuerUnavailable,
    LimitExceeded,
    PermissionDenied,
    PorticoError,
    Unauthenticated,
)
from portico.telemetry.counts import Counts


class Refusals:
    """Of one core. Its labels are words of ours."""

    def __init__(self) -> None:
        self._credentials = Counts(
            "portico.credentials.refused",
            "{call}",
            "Calls, and streams of a multiplexed connection, whose credential is not accepted.",
            "reason",
        )
        self._limited = Counts(
            "portico.calls.limited",
            "{call}",
            "Calls, and streams of a multiplexed connection, beyond what a tenant or user may call a second.",
            "limit",
        )

    def note(self, error: PorticoError) -> None:
        """What a call was refused with before a service saw it."""
        match error:
            case Unauthenticated():
                self._credentials.add(error.why)
            case PermissionDenied():
                self._credentials.add("scope")
            case IssuerUnavailable():
                self._credentials.add("issuer_unavailable")
            case LimitExceeded():
                self._limited.add(error.metadata["limit"])
