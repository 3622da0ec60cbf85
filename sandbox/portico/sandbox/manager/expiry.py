"""Ends sandboxes whose time to live or idle time is over."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from portico.sandbox import errors
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.manager.registry import ManagedSandbox, SandboxRegistry

log = logging.getLogger(__name__)

_NAP: Final = 5.0  # most seconds between two checks


class ExpiryTimer:
    """Periodically checks all sandboxes of a registry, also for those that have ended by themselves."""

    def __init__(
        self, registry: SandboxRegistry, end: Callable[[ManagedSandbox, str], Awaitable[None]]
    ) -> None:
        """`end` ends a sandbox; its second argument is the cause."""
        self._registry = registry
        self._end = end
        self._task: asyncio.Task[None] | None = None
        self._acting: dict[str, asyncio.Task[None]] = {}  # by sandbox id: a backend may take long
        self._next_look = 0.0  # monotonic time of the next check
        self._changed = asyncio.Event()

    def start(self) -> None:
        """Starts the periodic check."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Stops the check and waits for sandboxes that it is ending."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, *self._acting.values(), return_exceptions=True)

    def notice(self, held: ManagedSandbox) -> None:
        """Checks early if a new or changed sandbox expires before the next check."""
        if time.monotonic() + remaining(held.handle)[0] < self._next_look:
            self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            self._next_look = float("inf")  # a sandbox added during this check causes another one
            nap = _NAP
            self._registry.remove_dead()
            for held in self._registry.listed():
                left, _ = remaining(held.handle)
                if left <= 0:
                    if held.handle.id not in self._acting:
                        self._acting[held.handle.id] = asyncio.create_task(self._act(held))
                else:
                    nap = min(nap, left)
            self._next_look = time.monotonic() + nap
            try:
                async with asyncio.timeout(nap):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _act(self, held: ManagedSandbox) -> None:
        left, cause = remaining(held.handle)
        try:
            if left > 0:
                return  # it was used in the meantime
            if cause == "idle" and held.handle.spec.idle_action == "pause":
                await held.handle.sleep()
            else:
                await self._end(held, cause)
        except (errors.SandboxError, OSError) as error:
            log.warning("sandbox %s could not be ended or paused: %s", held.handle.id, error)
        finally:
            del self._acting[held.handle.id]


def remaining(box: SandboxHandle) -> tuple[float, str]:
    """Returns the seconds until a sandbox is to be ended or paused, and the cause. A paused one is not
    idle."""
    ends = [(float("inf"), "")]
    if box.spec.ttl_seconds is not None:
        ends.append((box.begun + box.spec.ttl_seconds - time.monotonic(), "expired"))
    if box.spec.idle_seconds is not None and not box.busy and not box.paused:
        ends.append((box.last_used + box.spec.idle_seconds - time.monotonic(), "idle"))
    return min(ends)
