"""Enforces the quotas of stored bytes per user and per tenant.

The bytes written are added to counts in memory. A count is measured in the store before
the first write of an owner with stored data, before a write is refused, and, in the
background, when it is old. So no counts are stored, a restart measures again, and every
delete is noticed at the next measurement. A measurement costs one query per user or
tenant. One that finds the quota used up is repeated only after twenty times its own
duration.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from portico.core.errors import LimitExceeded, StoreUnavailable
from portico.core.stores.ports.stored_sizes import SizeScope, SizeStore
from portico.model.identity import AGENT_PREFIX, tenant_of, user_of

log = logging.getLogger(__name__)

MAX_CACHED_OWNERS = 10_000  # users and tenants whose count is in memory
MAX_COUNT_AGE_SECONDS = 300.0  # an older count is measured again
_COST_FACTOR = 20
_BYTES = 1 << 22  # size of the bit set of `_SeenOwners`


@dataclass(slots=True)
class _Count:
    size: int
    measured_at: float
    cost: float  # seconds


@dataclass(slots=True)
class _Measurement:
    """A measurement in progress."""

    task: "asyncio.Task[None]"
    added: int = 0  # bytes written since it began
    doubted: bool = False  # bytes of unknown number were written since it began


class _SeenOwners:
    """The users and tenants that may have stored data, as a bit set indexed by hash.

    A cleared bit means no stored data; a set bit may be shared by several.
    """

    def __init__(self) -> None:
        self._bits = bytearray(_BYTES)
        self.complete = False

    def add(self, whose: SizeScope) -> None:
        place = hash(whose)
        self._bits[(place >> 3) & (_BYTES - 1)] |= 1 << (place & 7)

    def __contains__(self, whose: SizeScope) -> bool:
        place = hash(whose)
        return not self.complete or bool(self._bits[(place >> 3) & (_BYTES - 1)] & 1 << (place & 7))


class StorageQuota:
    """The quotas of one core. Every write must be checked and added here, on the event loop."""

    def __init__(self, sizes: SizeStore, *, per_tenant: int | None, per_user: int | None) -> None:
        self._sizes = sizes
        self._per_tenant = per_tenant
        self._per_user = per_user
        self._counts: OrderedDict[SizeScope, _Count] = OrderedDict()
        self._measuring: dict[SizeScope, _Measurement] = {}
        self._stored = _SeenOwners()
        self._limits = lru_cache(MAX_CACHED_OWNERS)(self._limits_of)

    async def warm_up(self) -> None:
        """Find the owners with stored data. Until then each owner is measured before the first write."""
        try:
            async for owners in self._sizes.owners():
                for owner in owners:
                    for whose, _ in self._limits_of(owner):
                        self._stored.add(whose)
        except StoreUnavailable as error:
            log.warning("can't list the owners with stored data, so each one will be measured: %s", error)
        else:
            self._stored.complete = True

    def can_check_now(self, owner: str, size: int) -> bool:
        """Return whether `check` can decide without a measurement."""
        return all(self._is_sure(whose, limit, size) for whose, limit in self._limits(owner))

    async def measure(self, owner: str, size: int) -> None:
        """Measure what `check` needs to decide. Raises StoreUnavailable."""
        for whose, limit in self._limits(owner):
            if not self._is_sure(whose, limit, size):
                measurement = self._measurement(whose)
                # Shielded: a cancelled caller must not cancel the measurement that others wait for.
                await asyncio.shield(measurement.task)
                if measurement.doubted:
                    await asyncio.shield(self._measurement(whose).task)

    def check(self, owner: str, size: int) -> None:
        """Raise LimitExceeded if `size` more bytes would exceed a quota."""
        for whose, limit in self._limits(owner):
            count = self._counts.get(whose)
            stored = 0 if count is None else count.size
            if stored + size > limit:
                who = "tenant" if whose.tenant else "user"
                raise LimitExceeded(
                    f"{who}_stored_bytes",
                    f"the {who} has {stored} of {limit} bytes stored, and this request adds {size}: "
                    "delete runs, sessions, states or memories first",
                )

    def add(self, owner: str, size: int) -> None:
        """Add written bytes to the counts."""
        for whose, _ in self._limits(owner):
            if (count := self._counts.get(whose)) is not None:
                count.size += size
            elif whose not in self._stored:
                self._count(whose, _Count(size, time.monotonic(), 0.0))
            else:
                self._stored.add(whose)
            if (measurement := self._measuring.get(whose)) is not None:
                measurement.added += size

    def invalidate(self, owner: str) -> None:
        """Record a write of unknown size: the counts must be measured again."""
        self.add(owner, 0)
        for whose, _ in self._limits(owner):
            if (count := self._counts.get(whose)) is not None:
                count.measured_at = float("-inf")
            if (measurement := self._measuring.get(whose)) is not None:
                measurement.doubted = True

    async def check_and_measure(self, owner: str, size: int) -> None:
        """Check and add the bytes of a write before it is made. Raises LimitExceeded, StoreUnavailable."""
        if not self.can_check_now(owner, size):
            await self.measure(owner, size)
        self.check(owner, size)
        self.add(owner, size)

    def _limits_of(self, owner: str) -> Sequence[tuple[SizeScope, int]]:
        limits = []
        # Memories that an agent stores for all users count for the tenant only.
        if self._per_user is not None and not user_of(owner).startswith(AGENT_PREFIX):
            limits.append((SizeScope(owner), self._per_user))
        if self._per_tenant is not None:
            limits.append((SizeScope(tenant_of(owner), tenant=True), self._per_tenant))
        return limits

    def _is_sure(self, whose: SizeScope, limit: int, size: int) -> bool:
        count = self._counts.get(whose)
        if count is None:
            return whose not in self._stored
        age = time.monotonic() - count.measured_at
        if count.size + size > limit:
            return age < count.cost * _COST_FACTOR
        if age >= MAX_COUNT_AGE_SECONDS:
            # An old count can only be too high, by what was deleted since, so callers need not wait for this.
            self._measurement(whose)
        return age != float("inf")

    def _count(self, whose: SizeScope, count: _Count) -> None:
        self._stored.add(whose)
        self._counts[whose] = count
        while len(self._counts) > MAX_CACHED_OWNERS:
            self._counts.popitem(last=False)

    def _measurement(self, whose: SizeScope) -> _Measurement:
        """Return the measurement in progress, shared by all callers, or start one."""
        if (found := self._measuring.get(whose)) is None:
            task = asyncio.create_task(self._measure(whose), name="measure what is stored")
            task.add_done_callback(_retrieve_exception)
            found = self._measuring[whose] = _Measurement(task)
        return found

    async def _measure(self, whose: SizeScope) -> None:
        began = time.monotonic()
        try:
            measured = await self._sizes.stored_bytes(whose)
        finally:
            measurement = self._measuring.pop(whose)
        now = time.monotonic()
        # The result may or may not include the bytes added during the measurement.
        at = float("-inf") if measurement.doubted else now
        self._count(whose, _Count(measured + measurement.added, at, now - began))


def _retrieve_exception(task: "asyncio.Task[None]") -> None:
    """Retrieve a measurement's exception, in case no caller waits for it any more."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("can't measure the stored bytes: %s", error)
