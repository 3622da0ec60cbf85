"""Rate limits per tenant and user: token buckets with one second's worth of calls, refilled continuously.

Every response carries the remaining calls, so that callers can slow down before they are refused.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextvars import ContextVar
from typing import NamedTuple

from portico.core.errors import LimitExceeded
from portico.model.identity import Principal
from portico.v1 import rates_pb2 as pb

MAX_BUCKETS = 20_000  # most buckets in memory; one that was dropped counts as full
METADATA = "portico-rate-limits-bin"


class RateExceeded(LimitExceeded):
    """A call above a rate limit; `told` is the encoded RateLimits for the caller."""

    def __init__(self, whose: str, limit: float, told: bytes, retry_after: float) -> None:
        problem = f"the {whose} makes more than {limit:g} calls per second; try again later"
        super().__init__(f"{whose}_requests", problem, retry_after=retry_after)
        self.told = told


class _Limit(NamedTuple):
    whose: str  # tenant or user
    rate: float  # calls per second
    size: float  # calls that a full bucket allows
    window: int  # seconds until an empty bucket is full again


class RateLimiter:
    """Rate limits in calls per second. For use on the event loop only."""

    def __init__(self, per_tenant: float | None, per_user: float | None) -> None:
        self._limits = tuple(
            _Limit(whose, rate, max(rate, 1.0), math.ceil(max(rate, 1.0) / rate))
            for whose, rate in (("tenant", per_tenant), ("user", per_user))
            if rate is not None
        )
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def count(self, who: Principal) -> bytes:
        """Counts one call.

        Returns:
            An encoded RateLimits for the caller; empty without limits.

        Raises:
            RateExceeded: A limit is reached; the error has the seconds until the next call is allowed.
        """
        if not self._limits:
            return b""
        now = time.monotonic()
        keys, lefts = [], []
        for limit in self._limits:
            key = limit.whose, _name(limit, who)
            left = self._left(limit, key, now)
            if left < 1.0:
                told = self._told(
                    self._left(each, (each.whose, _name(each, who)), now) for each in self._limits
                )
                raise RateExceeded(limit.whose, limit.rate, told, (1.0 - left) / limit.rate)
            keys.append(key)
            lefts.append(left - 1.0)
        # A refused call takes no token: other users of the tenant would pay for it.
        for key, left in zip(keys, lefts, strict=True):
            self._buckets[key] = left, now
            self._buckets.move_to_end(key)
        while len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return self._told(lefts)

    def _left(self, limit: _Limit, key: tuple[str, str], now: float) -> float:
        found = self._buckets.get(key)
        if found is None:
            return limit.size
        left = found[0] + (now - found[1]) * limit.rate
        return left if left < limit.size else limit.size

    def _told(self, lefts: Iterable[float]) -> bytes:
        told = pb.RateLimits()
        for (whose, rate, size, window), left in zip(self._limits, lefts, strict=True):
            whole = int(left)
            one = told.limits.add(name=whose, limit=int(size), window_seconds=window, remaining=whole)
            if left < size:
                after = int((min(whole + 1.0, size) - left) / rate * 1e9)
                one.available_after.seconds, one.available_after.nanos = divmod(after, 1_000_000_000)
        return told.SerializeToString()


_told: ContextVar[bytes] = ContextVar("portico rate limits", default=b"")


def set_rate_limit_metadata(told: bytes) -> None:
    """Sets the encoded RateLimits that the response of this task's call carries."""
    _told.set(told)


def rate_limit_metadata() -> tuple[tuple[str, bytes], ...]:
    """Response metadata with the caller's rate limits; empty without limits."""
    told = _told.get()
    return ((METADATA, told),) if told else ()


def _name(limit: _Limit, who: Principal) -> str:
    return who.tenant if limit.whose == "tenant" else who.owner
