"""How often tenants and users may call: token buckets that hold a second's worth, refilled all the time."""

import time
from collections import OrderedDict

from portico.core.errors import LimitExceeded
from portico.core.identity import Principal

REMEMBERED = 20_000  # buckets; who is forgotten has a full one


class Rates:
    """Calls per second. Owned by the event loop."""

    def __init__(self, per_tenant: float | None, per_user: float | None) -> None:
        self._limits = (("tenant", per_tenant), ("user", per_user))
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def count(self, who: Principal) -> None:
        """One call more. Raises LimitExceeded, which says when there is room again."""
        now = time.monotonic()
        for whose, limit in self._limits:
            if limit is not None:
                self._take(whose, who.tenant if whose == "tenant" else who.owner, limit, now)

    def _take(self, whose: str, name: str, limit: float, now: float) -> None:
        size = max(limit, 1.0)
        left, since = self._buckets.get((whose, name), (size, now))
        left = min(left + (now - since) * limit, size)
        if left < 1.0:
            problem = f"the {whose} calls more than {limit:g} times a second"
            raise LimitExceeded(f"{whose}_requests", problem, retry_after=(1.0 - left) / limit)
        self._buckets[whose, name] = left - 1.0, now
        self._buckets.move_to_end((whose, name))
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
