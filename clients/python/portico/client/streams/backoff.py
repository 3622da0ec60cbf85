"""Decides when a reader retries, and when it gives up."""

import random
from time import monotonic

_FIRST_SECONDS = 0.1
_LONGEST_SECONDS = 2.0
# A stream that lasted this long was healthy: its next break begins a new outage.
_STABLE_SECONDS = 5.0


class Backoff:
    """Delays that double up to a maximum, with jitter so that clients do not retry in step."""

    __slots__ = ("_ceiling",)

    def __init__(self) -> None:
        self._ceiling = _FIRST_SECONDS

    def next_delay(self) -> float:
        """Returns the seconds to wait before the next attempt."""
        delay = self._ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        self._ceiling = min(self._ceiling * 2, _LONGEST_SECONDS)
        return delay

    def reset(self) -> None:
        """Resets the delay after a success."""
        self._ceiling = _FIRST_SECONDS


class Outage:
    """The outage of one reader: it lasts until events arrive again, for at most the given time."""

    __slots__ = ("_limit", "_opened_at", "_since", "backoff", "lasts")

    def __init__(self, limit: float) -> None:
        self.backoff = Backoff()
        self.lasts = False  # true from a break until events arrive
        self._limit = limit
        self._since = 0.0
        self._opened_at: float | None = None

    def opened(self) -> None:
        """Records that the stream was opened; it is not yet known to be stable."""
        self._opened_at = monotonic()

    def ended(self) -> None:
        """Records that events arrived, which ends the outage."""
        self.lasts = False
        self.backoff.reset()

    def broke(self) -> float:
        """Records a break or a failed opening; returns the seconds left to resume."""
        now = monotonic()
        held = self._opened_at is not None and now - self._opened_at >= _STABLE_SECONDS
        self._opened_at = None
        if held or not self.lasts:
            self.lasts = True
            self._since = now
            self.backoff.reset()
        return self._since + self._limit - now
