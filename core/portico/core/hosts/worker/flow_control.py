"""How far a worker may be ahead of the core with what its agents yield.

The core gives room back when it has passed items on and the log keeps up; so an agent that yields faster
than the log is written stands still in its worker, as it would in the core.
"""

from collections.abc import Sequence

WINDOW = 256  # of one run: items, a long one counting as several
UNIT_BYTES = 1024

Item = str | bytes  # a text as it is, anything else encoded


def weight(items: Sequence[Item]) -> int:
    """What they take of a window."""
    return sum(1 + len(item) // UNIT_BYTES for item in items)
