"""How many sandboxes and snapshots there may be at once: of all users, of each tenant, of each user."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from portico.sandbox import errors

Kind = Literal["sandboxes", "snapshots"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that there may be at once; None: no limit."""

    sandboxes: int | None = None
    snapshots: int | None = None


def _no_tenant(user_id: str) -> str:
    return ""


class Ledger:
    """Counts what is in use, also while it is being made: many requests at once cannot pass a limit."""

    def __init__(
        self,
        total: Bounds | None = None,
        per_tenant: Bounds | None = None,
        per_user: Bounds | None = None,
        tenant_of: Callable[[str], str] = _no_tenant,
    ) -> None:
        """`tenant_of` gives the tenant of a user id."""
        # Whose limit it is in words, what the limit's name begins with, the limit, and whose use it counts.
        self._scopes: list[tuple[str, str, Bounds, Callable[[str], str]]] = [
            ("the user's", "", per_user or Bounds(), lambda user_id: f"user {user_id}"),
            (
                "the tenant's",
                "tenant_",
                per_tenant or Bounds(),
                lambda user_id: f"tenant {tenant_of(user_id)}",
            ),
            ("the server's", "", total or Bounds(), lambda user_id: ""),
        ]
        self._used: Counter[tuple[Kind, str]] = Counter()

    def take(self, kind: Kind, user_id: str, count: int = 1) -> None:
        """Counts more, or nothing of it. Raises LimitExceeded."""
        for whose, prefix, bounds, account in self._scopes:
            most: int | None = getattr(bounds, kind)
            if most is not None and self._used[kind, account(user_id)] + count > most:
                raise errors.LimitExceeded(
                    f"{whose} limit of {most} {kind} is reached; delete some first", f"{prefix}{kind}"
                )
        for *_, account in self._scopes:
            self._used[kind, account(user_id)] += count

    def give_back(self, kind: Kind, user_id: str, count: int = 1) -> None:
        """Counts less."""
        for *_, account in self._scopes:
            key = kind, account(user_id)
            self._used[key] -= count
            if not self._used[key]:
                del self._used[key]
