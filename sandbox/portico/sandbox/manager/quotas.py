"""Quotas of sandboxes and snapshots: for all users together, for each tenant and for each user."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from portico.sandbox import errors

Kind = Literal["sandboxes", "snapshots", "snapshot_bytes"]
_NOUNS: Final[dict[Kind, str]] = {
    "sandboxes": "sandboxes",
    "snapshots": "snapshots",
    "snapshot_bytes": "bytes of snapshots",
}


@dataclass(frozen=True, slots=True)
class SandboxQuota:
    """Upper limits of what may exist at once; None for no limit."""

    sandboxes: int | None = None
    snapshots: int | None = None
    snapshot_bytes: int | None = None  # as stored


@dataclass(frozen=True, slots=True)
class _Scope:
    whose: str  # for messages
    prefix: str  # of the limit's name
    quota: SandboxQuota
    account: Callable[[str], str]  # maps a user id to the key that usage is counted under


def _no_tenant(user_id: str) -> str:
    return ""


class SandboxQuotas:
    """Counts sandboxes and snapshots. Those in creation count too, so concurrent requests cannot exceed a
    limit."""

    def __init__(
        self,
        total: SandboxQuota | None = None,
        per_tenant: SandboxQuota | None = None,
        per_user: SandboxQuota | None = None,
        tenant_of: Callable[[str], str] = _no_tenant,
    ) -> None:
        """`tenant_of` maps a user id to its tenant; None is no limit."""
        self._scopes = (
            _Scope("the user's", "", per_user or SandboxQuota(), lambda user: f"user {user}"),
            _Scope(
                "the tenant's", "tenant_", per_tenant or SandboxQuota(), lambda user: f"of {tenant_of(user)}"
            ),
            _Scope("the server's", "", total or SandboxQuota(), lambda _user: "all"),
        )
        self._used: Counter[tuple[Kind, str]] = Counter()

    def acquire(self, kind: Kind, user_id: str, count: int = 1) -> None:
        """Adds to a user's count in every scope, or changes nothing. Raises LimitExceeded."""
        for scope in self._scopes:
            most: int | None = getattr(scope.quota, kind)
            if most is not None and self._used[kind, scope.account(user_id)] + count > most:
                raise errors.LimitExceeded(
                    f"{scope.whose} limit of {most} {_NOUNS[kind]} is reached; delete some first",
                    f"{scope.prefix}{kind}",
                )
        for scope in self._scopes:
            self._used[kind, scope.account(user_id)] += count

    def release(self, kind: Kind, user_id: str, count: int = 1) -> None:
        """Subtracts from a user's count in every scope."""
        for scope in self._scopes:
            key = kind, scope.account(user_id)
            self._used[key] -= count
            if not self._used[key]:
                del self._used[key]
