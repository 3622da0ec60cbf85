"""Quotas: how many sandboxes and snapshots all users, each tenant and each user may have at once."""

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
class Quota:
    """The most that there may be at once; None: no limit."""

    sandboxes: int | None = None
    snapshots: int | None = None
    snapshot_bytes: int | None = None  # as they are stored


@dataclass(frozen=True, slots=True)
class _Scope:
    whose: str  # in words
    prefix: str  # of the name of a limit
    quota: Quota
    account: Callable[[str], str]  # the key that a user's use is counted under


def _no_tenant(user_id: str) -> str:
    return ""


class Quotas:
    """Counts sandboxes and snapshots, also while they are made: many requests at once pass no limit."""

    def __init__(
        self,
        total: Quota | None = None,
        per_tenant: Quota | None = None,
        per_user: Quota | None = None,
        tenant_of: Callable[[str], str] = _no_tenant,
    ) -> None:
        """`tenant_of` gives the tenant of a user id."""
        self._scopes = (
            _Scope("the user's", "", per_user or Quota(), lambda user: f"user {user}"),
            _Scope("the tenant's", "tenant_", per_tenant or Quota(), lambda user: f"of {tenant_of(user)}"),
            _Scope("the server's", "", total or Quota(), lambda _user: "all"),
        )
        self._used: Counter[tuple[Kind, str]] = Counter()

    def take(self, kind: Kind, user_id: str, count: int = 1) -> None:
        """Counts more, or nothing of it. Raises LimitExceeded."""
        for scope in self._scopes:
            most: int | None = getattr(scope.quota, kind)
            if most is not None and self._used[kind, scope.account(user_id)] + count > most:
                raise errors.LimitExceeded(
                    f"{scope.whose} limit of {most} {_NOUNS[kind]} is reached; delete some first",
                    f"{scope.prefix}{kind}",
                )
        for scope in self._scopes:
            self._used[kind, scope.account(user_id)] += count

    def give_back(self, kind: Kind, user_id: str, count: int = 1) -> None:
        """Counts less."""
        for scope in self._scopes:
            key = kind, scope.account(user_id)
            self._used[key] -= count
            if not self._used[key]:
                del self._used[key]
