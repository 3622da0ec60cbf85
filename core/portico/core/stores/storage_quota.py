"""Whether a user, or a tenant, may store more.

What is written is added to a count in memory, which is measured now and then:
before the first write of who has something stored, before anybody is refused,
and, while others go on with it, when it is old. So nothing is kept of it
anywhere, a restart begins with what is there, and what is deleted is noticed
whoever deletes it. A measurement costs a query by user; one that says full is
not repeated at once, but when twenty times its own cost has passed.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from portico.core.errors import LimitExceeded, StoreUnavailable
from portico.core.stores.ports.stored_sizes import SizeStore, Whose
from portico.model.identity import AGENT_PREFIX, tenant_of, user_of

log = logging.getLogger(__name__)

REMEMBERED = 10_000  # users and tenants whose count is in memory
OLD_SECONDS = 300.0  # an older count is measured again
_COST_FACTOR = 20
_BYTES = 1 << 22  # of the marks


@dataclass(slots=True)
class _Count:
    size: int
    measured_at: float
    cost: float  # seconds


@dataclass(slots=True)
class _Measurement:
    """One under way."""

    task: "asyncio.Task[None]"
    added: int = 0  # meanwhile
    doubted: bool = False


class _Marks:
    """Who may have something stored: a bit for each, which a few share. Who has none has nothing."""

    def __init__(self) -> None:
        self._bits = bytearray(_BYTES)
        self.complete = False

    def add(self, whose: Whose) -> None:
        place = hash(whose)
        self._bits[(place >> 3) & (_BYTES - 1)] |= 1 << (place & 7)

    def __contains__(self, whose: Whose) -> bool:
        place = hash(whose)
        return not self.complete or bool(self._bits[(place >> 3) & (_BYTES - 1)] & 1 << (place & 7))


class Room:
    """Belongs to the event loop. Everything that is written goes by it."""

    def __init__(self, sizes: SizeStore, *, per_tenant: int | None, per_user: int | None) -> None:
        self._sizes = sizes
        self._per_tenant = per_tenant
        self._per_user = per_user
        self._counts: OrderedDict[Whose, _Count] = OrderedDict()
        self._measuring: dict[Whose, _Measurement] = {}
        self._stored = _Marks()
        self._limits = lru_cache(REMEMBERED)(self._limits_of)

    async def learn(self) -> None:
        """Learn who has something stored; until then everybody is measured before the first write."""
        try:
            async for owners in self._sizes.owners():
                for owner in owners:
                    for whose, _ in self._limits_of(owner):
                        self._stored.add(whose)
        except StoreUnavailable as error:
            log.warning("who has something stored can't be found out, so everybody is measured: %s", error)
        else:
            self._stored.complete = True

    def knows(self, owner: str, size: int) -> bool:
        """Whether `check` can tell at once."""
        return all(self._is_sure(whose, limit, size) for whose, limit in self._limits(owner))

    async def measure(self, owner: str, size: int) -> None:
        """See to it that `check` can tell. Raises StoreUnavailable."""
        for whose, limit in self._limits(owner):
            if not self._is_sure(whose, limit, size):
                measurement = self._measurement(whose)
                # Who leaves must not take the others' measurement along.
                await asyncio.shield(measurement.task)
                if measurement.doubted:
                    await asyncio.shield(self._measurement(whose).task)

    def check(self, owner: str, size: int) -> None:
        """Raises LimitExceeded when there is no room for so many bytes more."""
        for whose, limit in self._limits(owner):
            count = self._counts.get(whose)
            stored = 0 if count is None else count.size
            if stored + size > limit:
                who = "tenant" if whose.tenant else "user"
                raise LimitExceeded(
                    f"{who}_stored_bytes",
                    f"the {who} has {stored} of {limit} bytes stored, and this is {size} more: "
                    "delete runs, sessions, states or memories first",
                )

    def add(self, owner: str, size: int) -> None:
        """So many were written."""
        for whose, _ in self._limits(owner):
            if (count := self._counts.get(whose)) is not None:
                count.size += size
            elif whose not in self._stored:
                self._count(whose, _Count(size, time.monotonic(), 0.0))
            else:
                self._stored.add(whose)
            if (measurement := self._measuring.get(whose)) is not None:
                measurement.added += size

    def doubt(self, owner: str) -> None:
        """Something was written whose size nobody knows."""
        self.add(owner, 0)
        for whose, _ in self._limits(owner):
            if (count := self._counts.get(whose)) is not None:
                count.measured_at = float("-inf")
            if (measurement := self._measuring.get(whose)) is not None:
                measurement.doubted = True

    async def take(self, owner: str, size: int) -> None:
        """Room for what is about to be written. Raises LimitExceeded, StoreUnavailable."""
        if not self.knows(owner, size):
            await self.measure(owner, size)
        self.check(owner, size)
        self.add(owner, size)

    def _limits_of(self, owner: str) -> Sequence[tuple[Whose, int]]:
        limits = []
        # What an agent remembers for all is nobody's but the tenant's.
        if self._per_user is not None and not user_of(owner).startswith(AGENT_PREFIX):
            limits.append((Whose(owner), self._per_user))
        if self._per_tenant is not None:
            limits.append((Whose(tenant_of(owner), tenant=True), self._per_tenant))
        return limits

    def _is_sure(self, whose: Whose, limit: int, size: int) -> bool:
        count = self._counts.get(whose)
        if count is None:
            return whose not in self._stored
        age = time.monotonic() - count.measured_at
        if count.size + size > limit:
            return age < count.cost * _COST_FACTOR
        if age >= OLD_SECONDS:
            # What is too much in it are things that were deleted: others need not wait for that.
            self._measurement(whose)
        return age != float("inf")

    def _count(self, whose: Whose, count: _Count) -> None:
        self._stored.add(whose)
        self._counts[whose] = count
        while len(self._counts) > REMEMBERED:
            self._counts.popitem(last=False)

    def _measurement(self, whose: Whose) -> _Measurement:
        """One that is under way, for all who wait for it."""
        if (found := self._measuring.get(whose)) is None:
            task = asyncio.create_task(self._measure(whose), name="measure what is stored")
            task.add_done_callback(_seen)
            found = self._measuring[whose] = _Measurement(task)
        return found

    async def _measure(self, whose: Whose) -> None:
        began = time.monotonic()
        try:
            measured = await self._sizes.stored_bytes(whose)
        finally:
            measurement = self._measuring.pop(whose)
        now = time.monotonic()
        # What was added meanwhile may be in it or not.
        at = float("-inf") if measurement.doubted else now
        self._count(whose, _Count(measured + measurement.added, at, now - began))


def _seen(task: "asyncio.Task[None]") -> None:
    """Who waits for it hears of its exception; perhaps nobody does any more."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("what is stored can't be measured: %s", error)
