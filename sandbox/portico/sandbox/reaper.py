"""Ends sandboxes whose time is over."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from portico.sandbox import errors
from portico.sandbox.box import Box
from portico.sandbox.registry import Held, SandboxRegistry

log = logging.getLogger(__name__)

_NAP: Final = 5.0  # seconds at most between two looks


class Reaper:
    """Looks at all sandboxes of a registry again and again, also for those that have ended by themselves."""

    def __init__(self, registry: SandboxRegistry, end: Callable[[Held, str], Awaitable[None]]) -> None:
        """`end` ends a sandbox for a cause."""
        self._registry = registry
        self._end = end
        self._task: asyncio.Task[None] | None = None
        self._acting: dict[str, asyncio.Task[None]] = {}  # by sandbox: a backend may take long
        self._next_look = 0.0  # by the monotonic clock
        self._changed = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, *self._acting.values(), return_exceptions=True)

    def notice(self, held: Held) -> None:
        """A sandbox is new or has another time to live; most have more time left than the reaper sleeps."""
        if time.monotonic() + remaining(held.box)[0] < self._next_look:
            self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            self._next_look = float("inf")  # new sandboxes get a round of their own
            nap = _NAP
            self._registry.look()
            for held in self._registry.listed():
                left, _ = remaining(held.box)
                if left <= 0:
                    if held.box.id not in self._acting:
                        self._acting[held.box.id] = asyncio.create_task(self._act(held))
                else:
                    nap = min(nap, left)
            self._next_look = time.monotonic() + nap
            try:
                async with asyncio.timeout(nap):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _act(self, held: Held) -> None:
        left, cause = remaining(held.box)
        try:
            if left > 0:
                return  # it has been called in the meantime
            if cause == "idle" and held.box.spec.idle_action == "pause":
                await held.box.sleep()
            else:
                await self._end(held, cause)
        except (errors.SandboxError, OSError) as error:
            log.warning("sandbox %s could not be ended or paused: %s", held.box.id, error)
        finally:
            del self._acting[held.box.id]


def remaining(box: Box) -> tuple[float, str]:
    """Seconds until a sandbox is to be ended, or paused, and why. A paused one is not idle."""
    ends = [(float("inf"), "")]
    if box.spec.ttl_seconds is not None:
        ends.append((box.begun + box.spec.ttl_seconds - time.monotonic(), "expired"))
    if box.spec.idle_seconds is not None and not box.busy and not box.paused:
        ends.append((box.last_used + box.spec.idle_seconds - time.monotonic(), "idle"))
    return min(ends)
