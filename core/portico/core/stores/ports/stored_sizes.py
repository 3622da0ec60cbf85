"""How much somebody has stored: what was said and saved, without indexes and what surrounds it."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from portico.model.identity import TENANT_PREFIX, tenant_of


class Whose(NamedTuple):
    """A user, by the owner's name in the stores, or all of a tenant."""

    name: str
    tenant: bool = False

    def has(self, owner: str) -> bool:
        return tenant_of(owner) == self.name if self.tenant else owner == self.name

    @property
    def between(self) -> tuple[str, str]:
        """The names of a tenant's owners are from the first to before the second. The tenant without a name
        has those that no other has."""
        name = f"{TENANT_PREFIX}{self.name}:" if self.name else TENANT_PREFIX
        return name, f"{name[:-1]};"  # what follows a colon


class SizeStore(Protocol):
    """Looks at all that the stores of one URL keep."""

    async def stored_bytes(self, whose: Whose) -> int:
        """Requests, logs, answers and kept results of runs, messages once, states, memories, and all their
        metadata."""
        ...

    def owners(self) -> AsyncIterator[Sequence[str]]:
        """The names of all who have something stored, some of them repeatedly. Who comes meanwhile may be
        missing."""
        ...
