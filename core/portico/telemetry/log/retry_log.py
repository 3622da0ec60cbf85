"""Limits repeated log lines of a retry loop: the first failure is logged, then ever fewer."""

import time

PAUSES = 60.0, 3600.0  # seconds between two lines: at first (doubled each time), and at most


class RetryLog:
    """Decides which of many equal lines to log."""

    __slots__ = ("_pause", "_until", "left_out")

    def __init__(self) -> None:
        self.left_out = 0  # lines left out since the last logged one
        self._pause = 0.0
        self._until = 0.0

    def due(self) -> bool:
        """Whether to log this line. After two pauses without any line the intervals start again."""
        now = time.monotonic()
        if now < self._until:
            self.left_out += 1
            return False
        shortest, longest = PAUSES
        lasts = self._pause and now < self._until + self._pause
        self._pause = min(self._pause * 2, longest) if lasts else shortest
        self._until = now + self._pause
        return True
