"""Pauses a sandbox: all its processes are stopped until it is resumed, or until the next call."""

import asyncio
import time
from collections.abc import Awaitable

from portico.sandbox import errors
from portico.sandbox.handle.channel import Channel


class Pausable:
    """The part of a sandbox handle that pauses and resumes. The subclass sets `gone` and `channel`."""

    channel: Channel
    gone: errors.SandboxGone | None

    def __init__(self) -> None:
        self.paused = False
        self.asleep = False  # paused until the next call
        self.last_used = time.monotonic()
        self._turning: asyncio.Task[None] | None = None  # the last pause or resume

    async def pause(self) -> None:
        """Stops all processes. Calls raise SandboxPaused until `resume`. Raises Unsupported."""
        if self.gone is not None:
            raise self.gone
        self.asleep = False
        if not self.paused:
            await asyncio.shield(self._turn(True))

    async def sleep(self) -> None:
        """Stops all processes until the next call, which resumes them. Raises Unsupported."""
        if self.gone is None and not self.paused:
            self.asleep = True
            await asyncio.shield(self._turn(True))

    async def resume(self) -> None:
        """Continues all processes; the idle time starts again."""
        if self.gone is not None:
            raise self.gone
        self.last_used = time.monotonic()
        if self.paused:
            await asyncio.shield(self._turn(False))

    def _turn(self, paused: bool) -> asyncio.Task[None]:
        """Starts a pause or resume: at once, or after the one that is under way."""
        before = self._turning
        begun = self._freeze(paused) if before is None or before.done() else None
        self.paused = paused
        self.asleep = self.asleep and paused

        async def turn() -> None:
            try:
                if before is not None:
                    await asyncio.wait({before})
                await (begun or self._freeze(paused))
            except errors.SandboxError:
                if paused:
                    self.paused = self.asleep = False
                else:  # open calls would never end
                    self.channel.lost(errors.SandboxGone("it cannot be resumed", "killed"))
                raise

        self._turning = task = asyncio.create_task(turn())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # callers get the exception
        return task

    def _freeze(self, frozen: bool) -> Awaitable[None]:
        """Stops all processes inside, or continues them."""
        raise errors.Unsupported("this backend cannot pause sandboxes")
