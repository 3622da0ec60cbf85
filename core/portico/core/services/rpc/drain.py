"""The end of a core's life, as its streams see it: they are cut, resumably."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Drain:
    """Knows the open streams, and cuts them when the core stops. Owned by the server."""

    def __init__(self) -> None:
        self.cutting = False
        self._cuts: set[Callable[[], None]] = set()

    @contextmanager
    def watching(self, cut: Callable[[], None]) -> Iterator[None]:
        """Call `cut`, once, when streams are to end; at once if that time has come."""
        self._cuts.add(cut)
        try:
            if self.cutting:
                cut()
            yield
        finally:
            self._cuts.discard(cut)

    def cut(self) -> None:
        """End all streams, and those that are still opened."""
        self.cutting = True
        for cut in tuple(self._cuts):
            cut()
