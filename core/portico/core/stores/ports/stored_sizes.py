"""The interface that measures how many bytes a user or tenant has stored: content only, without indexes."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from portico.model.identity import TENANT_PREFIX, tenant_of


class SizeScope(NamedTuple):
    """A user, by the owner's name in the stores, or all users of a tenant."""

    name: str
    tenant: bool = False

    def includes(self, owner: str) -> bool:
        return tenant_of(owner) == self.name if self.tenant else owner == self.name

    @property
    def between(self) -> tuple[str, str]:
        """The half-open range of the names of a tenant's owners.

        For the tenant without a name, the range of the names of all other tenants' owners, which are
        not its own.
        """
        name = f"{TENANT_PREFIX}{self.name}:" if self.name else TENANT_PREFIX
        return name, f"{name[:-1]};"  # ";" is the character after ":"


class SizeStore(Protocol):
    """Measures the content of all stores of one URL."""

    async def stored_bytes(self, whose: SizeScope) -> int:
        """Return the bytes that a user or tenant has stored.

        Counts requests, event logs, answers and stored results of runs, messages (once, although events
        repeat them), states, memories, and the metadata of all of these.
        """
        ...

    def owners(self) -> AsyncIterator[Sequence[str]]:
        """Yield the names of all owners with stored data.

        A name may be repeated. An owner who first stores something during the iteration may be missing.
        """
        ...
