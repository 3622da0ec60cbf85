"""Sandboxes that wait ready, primed with a first cell, for whoever asks for just such ones."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Generic, TypeVar

from portico.sandbox import errors
from portico.sandbox.box import Box
from portico.sandbox.spec import Spec

B = TypeVar("B", bound=Box)


class Pool(Generic[B]):
    """`make` gives a sandbox whose kernel has started. One is made at a time."""

    def __init__(self, size: int, make: Callable[[Spec], Awaitable[B]]) -> None:
        self._size = size
        self._make = make
        self._spec = Spec()
        self._waiting: list[B] = []
        self._filling: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def claim(self, spec: Spec) -> B | None:
        """A waiting sandbox that serves the spec, from now on the caller's; none: make one."""
        if _kind(spec) != _kind(self._spec):
            return None
        while self._waiting:
            box = self._waiting.pop(0)
            self.refill()
            if box.gone is None:
                box.spec, box.begun, box.last_used = spec, time.monotonic(), time.monotonic()
                return box
        return None

    def forget(self, box: B) -> None:
        """It has ended while it waited."""
        if box in self._waiting:
            self._waiting.remove(box)
            self.refill()

    def refill(self) -> None:
        if self._size and not self._closed and (self._filling is None or self._filling.done()):
            self._filling = asyncio.ensure_future(self._fill())

    async def _fill(self) -> None:
        while not self._closed and len(self._waiting) < self._size:
            try:
                box = await self._make(self._spec)
                await box.run_cell("")  # it touches what the next will need
            except errors.SandboxError:
                return  # the next claim tries again
            if box.gone is None:
                self._waiting.append(box)

    async def close(self) -> None:
        """Makes no more; those that wait are the backend's to end."""
        self._closed = True
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)
        self._waiting.clear()


def _kind(spec: Spec) -> tuple[object, ...]:
    """What of a spec must be the same for a waiting sandbox to serve it; the rest comes with the claim."""
    limits = replace(spec.limits, output_bytes=0, call_seconds=0)
    return limits, spec.mounts, spec.network, spec.preload
