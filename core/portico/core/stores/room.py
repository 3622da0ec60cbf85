"""Whether a user, or a tenant, may store more.

What is written is added to a count in memory, which is measured now and then:
before the first write, before anybody is refused, and when it is old. So nothing
is kept of it anywhere, a restart begins with what is there, and what is deleted
is noticed whoever deletes it. A measurement costs a few queries by user; one
that says full is not repeated at once, but when twenty times its own cost has
passed.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from portico.core.errors import LimitExceeded
from portico.core.identity import AGENT_PREFIX, tenant_of, user_of
from portico.core.stores.sizes import SizeStore, Whose

REMEMBERED = 10_000  # users and tenants whose count is in memory
OLD_SECONDS = 300.0  # an older count is measured again
_COST_FACTOR = 20


@dataclass(slots=True)
class _Count:
    size: int
    measured_at: float
    cost: float  # seconds


class Room:
    """Belongs to the event loop. Without limits it counts nothing."""

    def __init__(self, sizes: SizeStore, *, per_tenant: int | None, per_user: int | None) -> None:
        self._sizes = sizes
        self._per_tenant = per_tenant
        self._per_user = per_user
        self._counts: OrderedDict[Whose, _Count] = OrderedDict()
        self._measuring = asyncio.Lock()

    def knows(self, owner: str, size: int) -> bool:
        """Whether `check` can tell at once."""
        return all(self._is_sure(whose, limit, size) for whose, limit in self._limits(owner))

    async def measure(self, owner: str, size: int) -> None:
        """See to it that `check` can tell."""
        for whose, limit in self._limits(owner):
            async with self._measuring:
                if self._is_sure(whose, limit, size):
                    continue
                before = self._counts.get(whose)
                counted = 0 if before is None else before.size
                began = time.monotonic()
                measured = await self._sizes.stored_bytes(whose)
                now = time.monotonic()
                # What was added meanwhile may be in it or not.
                more = 0 if before is None else before.size - counted
                self._counts[whose] = _Count(measured + more, now, now - began)
                while len(self._counts) > REMEMBERED:
                    self._counts.popitem(last=False)

    def check(self, owner: str, size: int) -> None:
        """Raises LimitExceeded when there is no room for so many bytes more."""
        for whose, limit in self._limits(owner):
            count = self._counts.get(whose)
            if count is not None and count.size + size > limit:
                who = "tenant" if whose.tenant else "user"
                raise LimitExceeded(
                    f"{who}_stored_bytes",
                    f"the {who} has {count.size} of {limit} bytes stored, and this is {size} more: "
                    "delete runs, sessions, states or memories first",
                )

    def add(self, owner: str, size: int) -> None:
        """So many were written."""
        for whose, _ in self._limits(owner):
            count = self._counts.get(whose)
            if count is not None:
                count.size += size

    def doubt(self, owner: str) -> None:
        """Something was written whose size nobody knows."""
        for whose, _ in self._limits(owner):
            count = self._counts.get(whose)
            if count is not None:
                count.measured_at = float("-inf")

    async def take(self, owner: str, size: int) -> None:
        """Room for what is about to be written. Raises LimitExceeded."""
        if not self.knows(owner, size):
            await self.measure(owner, size)
        self.check(owner, size)
        self.add(owner, size)

    def _limits(self, owner: str) -> Iterator[tuple[Whose, int]]:
        # What an agent remembers for all is nobody's but the tenant's.
        if self._per_user is not None and not user_of(owner).startswith(AGENT_PREFIX):
            yield Whose(owner), self._per_user
        if self._per_tenant is not None:
            yield Whose(tenant_of(owner), tenant=True), self._per_tenant

    def _is_sure(self, whose: Whose, limit: int, size: int) -> bool:
        count = self._counts.get(whose)
        if count is None:
            return False
        age = time.monotonic() - count.measured_at
        return age < (OLD_SECONDS if count.size + size <= limit else count.cost * _COST_FACTOR)
