"""Flow control: how many items a worker may send ahead of the core.

The core returns units of the window once it has passed items on and the log keeps up. An agent that yields
faster than the log is written therefore waits in its worker, as it would in the core's process.
"""

from collections.abc import Sequence

WINDOW_ITEMS = 256  # units of one run: one per item, and one per BYTES_PER_ITEM of it
BYTES_PER_ITEM = 1024

Item = str | bytes  # text is sent as it is, any other item encoded


def window_cost(items: Sequence[Item]) -> int:
    """Units of the window that the items use."""
    return sum(1 + len(item) // BYTES_PER_ITEM for item in items)
