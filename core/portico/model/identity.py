"""Principals, scopes, and the owner key under which the stores keep a user's data.

A store knows owners: one text for a tenant and a user. The tenant of callers
without one has no name, and its users' owner keys are the user ids themselves,
so data stored while auth was off is found when it is on.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

TENANT_PREFIX: Final = "tenant:"  # begins the owner keys of named tenants; callers' ids can't begin with it
AGENT_PREFIX: Final = "agent:"  # begins the owner keys of agents' memories; callers' ids can't begin with it
TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# The scopes that each scope includes.
# read: read one's own data. use: every operation on one's own data. act-as: the same for any user of the
# tenant. deliver: read any run and deliver its push notifications. admin: everything.
SCOPES: Final[Mapping[str, frozenset[str]]] = {
    "read": frozenset(("read",)),
    "use": frozenset(("use", "read")),
    "act-as": frozenset(("act-as", "use", "read")),
    "deliver": frozenset(("deliver",)),
    "admin": frozenset(("admin", "act-as", "use", "read", "deliver")),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller; or EVERYBODY, the caller of every call while auth is off."""

    tenant: str
    user: str
    scopes: frozenset[str]  # its scopes and those that they include
    trusts_request_user: bool = False  # its requests may name any user

    @property
    def owner(self) -> str:
        return owner_key(self.tenant, self.user)

    def owns(self, owner: str, *, reading: bool = False) -> bool:
        """Whether it may access the owner's data as its own; `reading` also admits the scope deliver."""
        if self.trusts_request_user or owner == self.owner or "admin" in self.scopes:
            return True
        if reading and "deliver" in self.scopes:
            return True
        return "act-as" in self.scopes and tenant_of(owner) == self.tenant


def make_principal(tenant: str, user: str, scopes: frozenset[str]) -> Principal:
    """Makes a principal; unknown scopes allow nothing."""
    allowed = frozenset().union(*(SCOPES.get(scope, frozenset()) for scope in scopes))
    return Principal(tenant, user, allowed)


# The caller of every call while auth is off: it may do everything, as any user that its request names.
UNAUTHENTICATED_OPERATOR: Final = Principal("", "", frozenset(SCOPES), trusts_request_user=True)


def owner_key(tenant: str, user: str) -> str:
    """The owner key of a tenant's user in the stores."""
    return f"{TENANT_PREFIX}{tenant}:{user}" if tenant else user


def tenant_of(owner: str) -> str:
    return owner[len(TENANT_PREFIX) :].partition(":")[0] if owner.startswith(TENANT_PREFIX) else ""


def user_of(owner: str) -> str:
    """The user id within the owner's tenant."""
    return owner[len(TENANT_PREFIX) :].partition(":")[2] if owner.startswith(TENANT_PREFIX) else owner
