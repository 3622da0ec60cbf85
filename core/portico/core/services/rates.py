"""How often tenants and users may call: token buckets that hold a second's worth, refilled all the time.

What is left is told to callers, for who can see a limit coming need not run into it.
"""

import math
import time
from collections import OrderedDict
from contextvars import ContextVar

from portico.core.errors import LimitExceeded
from portico.core.identity import Principal
from portico.v1 import rates_pb2 as pb

REMEMBERED = 20_000  # buckets; who is forgotten has a full one
METADATA = "portico-rate-limits-bin"


class RateExceeded(LimitExceeded):
    """A call too many. `told` is what the caller is to know of its limits."""

    def __init__(self, whose: str, limit: float, told: bytes, retry_after: float) -> None:
        problem = f"the {whose} calls more than {limit:g} times a second"
        super().__init__(f"{whose}_requests", problem, retry_after=retry_after)
        self.told = told


class Rates:
    """Calls per second. Owned by the event loop."""

    def __init__(self, per_tenant: float | None, per_user: float | None) -> None:
        limits = (("tenant", per_tenant), ("user", per_user))
        self._limits = tuple((whose, limit) for whose, limit in limits if limit is not None)
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def count(self, who: Principal) -> bytes:
        """One call more. Returns what the caller is to know of its limits, an encoded RateLimits; nothing
        without limits. Raises RateExceeded, which says when there is room again."""
        if not self._limits:
            return b""
        now = time.monotonic()
        for whose, limit in self._limits:
            left = self._left(whose, who, limit, now)
            if left < 1.0:
                raise RateExceeded(whose, limit, self._told(who, now), (1.0 - left) / limit)
            self._keep(whose, who, left - 1.0, now)
        return self._told(who, now)

    def _left(self, whose: str, who: Principal, limit: float, now: float) -> float:
        size = max(limit, 1.0)
        left, since = self._buckets.get((whose, _name(whose, who)), (size, now))
        return min(left + (now - since) * limit, size)

    def _keep(self, whose: str, who: Principal, left: float, now: float) -> None:
        key = whose, _name(whose, who)
        self._buckets[key] = left, now
        self._buckets.move_to_end(key)
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)

    def _told(self, who: Principal, now: float) -> bytes:
        told = pb.RateLimits()
        for whose, limit in self._limits:
            size, left = max(limit, 1.0), self._left(whose, who, limit, now)
            one = told.limits.add(
                name=whose,
                limit=int(size),
                window_seconds=math.ceil(size / limit),
                remaining=min(int(left), int(size)),
            )
            if left < size:
                one.available_after.FromNanoseconds(int((min(int(left) + 1.0, size) - left) / limit * 1e9))
        return told.SerializeToString()


_told: ContextVar[bytes] = ContextVar("portico rate limits", default=b"")


def tell(told: bytes) -> None:
    """For the rest of this call's task: what its caller is to know of its limits."""
    _told.set(told)


def metadata() -> tuple[tuple[str, bytes], ...]:
    """Metadata with what this call's caller is to know of its limits; none without limits."""
    told = _told.get()
    return ((METADATA, told),) if told else ()


def _name(whose: str, who: Principal) -> str:
    return who.tenant if whose == "tenant" else who.owner
