"""Who calls, and under which name the stores keep what is theirs.

A store knows owners: one text for a tenant and a user. The tenant of those who
name none has no name, and its users' owners are the user ids themselves, so
what was kept while auth was off is found when it is on.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

TENANT_PREFIX: Final = "tenant:"  # of the owners of named tenants; callers can't use it
AGENT_PREFIX: Final = "agent:"  # of the owners of agents' own memories; nor this
TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# What a scope allows, itself included:
# read: to look at what is one's own. use: everything with it. act-as: the same for any user of the
# tenant. deliver: to read any run and to deliver its notifications. admin: everything.
SCOPES: Final[Mapping[str, frozenset[str]]] = {
    "read": frozenset(("read",)),
    "use": frozenset(("use", "read")),
    "act-as": frozenset(("act-as", "use", "read")),
    "deliver": frozenset(("deliver",)),
    "admin": frozenset(("admin", "act-as", "use", "read", "deliver")),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credential is good, or EVERYBODY."""

    tenant: str
    user: str
    allowed: frozenset[str]  # scopes, with those that they imply
    believed: bool = False  # it is whoever its request says it is

    @property
    def owner(self) -> str:
        return owner_key(self.tenant, self.user)

    def owns(self, owner: str, *, reading: bool = False) -> bool:
        """Whether it may do with the owner's what it may do with its own."""
        if self.believed or owner == self.owner or "admin" in self.allowed:
            return True
        if reading and "deliver" in self.allowed:
            return True
        return "act-as" in self.allowed and tenant_of(owner) == self.tenant


def principal(tenant: str, user: str, scopes: frozenset[str]) -> Principal:
    """Scopes that are unknown allow nothing."""
    allowed = frozenset().union(*(SCOPES.get(scope, frozenset()) for scope in scopes))
    return Principal(tenant, user, allowed)


# The caller of every call while auth is off: it may do everything, as whoever it says it is.
EVERYBODY: Final = Principal("", "", frozenset(SCOPES), believed=True)


def owner_key(tenant: str, user: str) -> str:
    """The name in the stores."""
    return f"{TENANT_PREFIX}{tenant}:{user}" if tenant else user


def tenant_of(owner: str) -> str:
    return owner[len(TENANT_PREFIX) :].partition(":")[0] if owner.startswith(TENANT_PREFIX) else ""


def user_of(owner: str) -> str:
    """The name that its tenant knows."""
    return owner[len(TENANT_PREFIX) :].partition(":")[2] if owner.startswith(TENANT_PREFIX) else owner
