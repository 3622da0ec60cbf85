"""Sandboxes that wait to be asked for, so that whoever asks waits less.

A spare is in its namespaces and its control groups, has the usual limits and environment, and its kernel
waits for a cell. A ready one has run one. Whoever asks for something unusual has it changed at the claim.

Who asks for many at once is likely to do so again. For each for whom nothing waited, one more spare is kept
for a while.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from portico.sandbox import errors
from portico.sandbox.local.box import LocalBox

MOST: Final = 22  # spares beyond the usual
_AFTER: Final = 0.03  # seconds since the last claim
_LATELY: Final = 30.0  # seconds for which it is remembered that nothing waited


class Stock:
    """What waits of one template. Owned by the backend, on its loop."""

    def __init__(
        self,
        make: Callable[[], Awaitable[LocalBox]],
        wake: Callable[[LocalBox], Awaitable[None]],
        good: Callable[[LocalBox], bool],
        hurried: Callable[[], bool],
        room: Callable[[], int],
        release: Callable[[LocalBox], None],
        *,
        spares: int,
        ready: int,
    ) -> None:
        """`make` gives a spare, `wake` makes it ready, `good` says whether it is still fit to be given,
        `hurried` whether somebody waits for a sandbox, `room` how many more than usual may wait; `release`
        ends what need not wait any longer."""
        self._make, self._wake, self._good, self._hurried = make, wake, good, hurried
        self._room, self._release = room, release
        self._wanted = {"spare": spares, "ready": ready}
        self._waiting: dict[str, list[LocalBox]] = {"spare": [], "ready": []}
        self._claimed = 0.0
        self._complete = False  # whether all that was wanted has been there once
        self._making = 0  # spares
        self._missed: deque[float] = deque(maxlen=MOST)  # when nothing waited
        self._easing: asyncio.TimerHandle | None = None
        self._filling: asyncio.TimerHandle | asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether something is being made, or about to be."""
        return self._filling is not None

    @property
    def ready(self) -> list[LocalBox]:
        """Those with a kernel, the next one first."""
        return [box for box in self._waiting["ready"] if box.gone is None]

    def claim(self) -> LocalBox | None:
        """The best there is, or None."""
        self._claimed = time.monotonic()
        for kind in ("ready", "spare"):
            while self._waiting[kind]:
                box = self._waiting[kind].pop(0)
                if self._good(box):
                    return box
        if self._complete:
            self._missed.append(self._claimed)
            if self._easing is None:
                self._easing = asyncio.get_running_loop().call_later(_LATELY, self._ease)
        return None

    @property
    def extra(self) -> int:
        """How many spares wait, or are being made, beyond the usual."""
        return max(0, len(self._waiting["spare"]) + self._making - self._wanted["spare"])

    def fill(self) -> None:
        """Begins to make what is missing, in a moment: whoever has just claimed goes first."""
        if self._filling is None:
            self._filling = asyncio.get_running_loop().call_later(_AFTER, self._begin)

    def _begin(self) -> None:
        self._filling = asyncio.ensure_future(self._fill())

    async def close(self) -> None:
        """Makes no more, and ends what waits."""
        if self._easing is not None:
            self._easing.cancel()
        filling, self._filling = self._filling, None
        if filling is not None:
            filling.cancel()
        if isinstance(filling, asyncio.Task):
            await asyncio.gather(filling, return_exceptions=True)
        waiting = [box for boxes in self._waiting.values() for box in boxes]
        for boxes in self._waiting.values():
            boxes.clear()
        await asyncio.gather(*(box.destroy() for box in waiting))

    async def _fill(self) -> None:
        try:
            while (kind := self._missing()) is not None:
                if self._hurried() or time.monotonic() < self._claimed + _AFTER:
                    await asyncio.sleep(_AFTER)
                    continue
                if kind == "ready":
                    spares = self._waiting["spare"]
                    box = spares.pop(0) if spares else await self._make()
                    await self._wake(box)
                else:
                    box = await self._make_spare()
                self._waiting[kind].append(box)
            self._complete = True
        except errors.SandboxError:
            return  # the next claim tries again, and its caller is told
        finally:
            self._filling = None

    async def _make_spare(self) -> LocalBox:
        self._making += 1
        try:
            return await self._make()
        finally:
            self._making -= 1

    def _missing(self) -> str | None:
        for kind, wanted in self._wanted.items():
            self._waiting[kind] = [box for box in self._waiting[kind] if self._good(box)]
            if len(self._waiting[kind]) < wanted:
                return kind
        if self._wanted["spare"] and self.extra < self._expected() and self._room() > 0:
            return "spare"
        return None

    def _expected(self) -> int:
        """How many more than usual would have been of use lately."""
        while self._missed and self._missed[0] + _LATELY < time.monotonic():
            self._missed.popleft()
        return len(self._missed)

    def _ease(self) -> None:
        """Ends spares that were of use a while ago, and looks again when the next has not been of use."""
        self._easing = None
        for _ in range(self.extra - self._expected()):
            self._release(self._waiting["spare"].pop())
        if self._missed:
            later = self._missed[0] + _LATELY - time.monotonic()
            self._easing = asyncio.get_running_loop().call_later(max(0.1, later), self._ease)
