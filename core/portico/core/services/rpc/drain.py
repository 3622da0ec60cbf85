"""Interrupts open streams when the core stops; clients can resume them from their cursor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Drain:
    """Registry of open streams, which it interrupts when the core stops. One per server."""

    def __init__(self) -> None:
        self.cutting = False
        self._cuts: set[Callable[[], None]] = set()

    @contextmanager
    def register(self, cut: Callable[[], None]) -> Iterator[None]:
        """Within the context, calls `cut` when streams must end; at once if the core is stopping already."""
        self._cuts.add(cut)
        try:
            if self.cutting:
                cut()
            yield
        finally:
            self._cuts.discard(cut)

    def interrupt_all(self) -> None:
        """Interrupts all open streams, and from now on every new one."""
        self.cutting = True
        for cut in tuple(self._cuts):
            cut()
