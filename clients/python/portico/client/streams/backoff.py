"""When to try again, and when to give up."""

import random
from time import monotonic

_FIRST_SECONDS = 0.1
_LONGEST_SECONDS = 2.0
# A stream that held this long was well: what breaks it is a new outage.
_STABLE_SECONDS = 5.0


class Backoff:
    """Delays that double up to a cap, with jitter so that clients don't return in step."""

    __slots__ = ("_ceiling",)

    def __init__(self) -> None:
        self._ceiling = _FIRST_SECONDS

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt."""
        delay = self._ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        self._ceiling = min(self._ceiling * 2, _LONGEST_SECONDS)
        return delay

    def reset(self) -> None:
        """Starts over after a success."""
        self._ceiling = _FIRST_SECONDS


class Outage:
    """One reader's outage: it lasts until events come again, and only so long."""

    __slots__ = ("_limit", "_opened_at", "_since", "backoff", "lasts")

    def __init__(self, limit: float) -> None:
        self.backoff = Backoff()
        self.lasts = False  # whether events are still to come after the last break
        self._limit = limit
        self._since = 0.0
        self._opened_at: float | None = None

    def opened(self) -> None:
        """The stream was opened (again); whether it holds is not known yet."""
        self._opened_at = monotonic()

    def ended(self) -> None:
        """Events came."""
        self.lasts = False
        self.backoff.reset()

    def broke(self) -> float:
        """The stream broke, or could not be opened. Returns the seconds left to have it back."""
        now = monotonic()
        held = self._opened_at is not None and now - self._opened_at >= _STABLE_SECONDS
        self._opened_at = None
        if held or not self.lasts:
            self.lasts = True
            self._since = now
            self.backoff.reset()
        return self._since + self._limit - now
